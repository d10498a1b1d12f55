// node_cache.cpp: a library for LD_PRELOAD that gives every rank a page cache of its own, as if each rank ran on
// another node and all files were on an NFS server. It is no part of the program; in other processes it does nothing.
//
//   NODE_CACHE=GLOB    the paths of the files that it caches (*.partial)
//
// What it does with these files, as the NFS client of Linux does:
//   write    stays in the pages of this process until fsync or close. A page of which only a part is written is first
//            read if the file was opened for reading too, and is then written back whole; so is a page that was
//            complete in the cache already. Otherwise only the written bytes are written back.
//   read     comes from the cached page; a page that is missing is read whole, and stays
//   open     drops the clean pages: another node may have closed the file since (close-to-open consistency)
//   posix_fadvise(DONTNEED)  drops the clean pages
// What it does not do: locks, delays, cached attributes and folders.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {

constexpr off_t kPage = 4096;

struct Page {
    std::array<char, kPage> bytes{};
    bool complete = false;     // all bytes are valid, not only the dirty ones
    off_t begin = 0, end = 0;  // the dirty bytes
    bool dirty() const { return begin < end; }
};
using Pages = std::map<off_t, Page>;  // by offset
using File = std::pair<dev_t, ino_t>;

// Never destroyed: other threads may still close files when the process ends.
std::recursive_mutex& lock() {
    static auto* mutex = new std::recursive_mutex;
    return *mutex;
}
std::map<File, Pages>& cache() {
    static auto* files = new std::map<File, Pages>;
    return *files;
}

template <class Function> Function next_of(Function, const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}
#define NEXT(name) static const auto next = next_of(&name, #name)

ssize_t server_write(int fd, const void* data, size_t bytes, off_t at) {
    NEXT(pwrite64);
    return next(fd, data, bytes, at);
}
ssize_t server_read(int fd, void* out, size_t bytes, off_t at) {
    NEXT(pread64);
    return next(fd, out, bytes, at);
}

bool is_ours() {
    static const bool ours =
        !strcmp(program_invocation_short_name, "longlora") || !strncmp(program_invocation_short_name, "test_", 5);
    return ours;
}

bool is_cached_path(const char* path) {
    static const char* glob = getenv("NODE_CACHE") ? getenv("NODE_CACHE") : "*.partial";
    return is_ours() && fnmatch(glob, path, 0) == 0;
}

/// Whether the cache has to do with this file; then `file` and `size` are filled.
bool is_cached(int fd, File& file, off_t& size) {
    if (!is_ours()) return false;
    char path[4096];
    const int errno_before = errno;
    const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path - 1);
    path[std::max<ssize_t>(length, 0)] = 0;
    struct stat status;
    const bool cached = length > 0 && is_cached_path(path) && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    errno = errno_before;
    if (cached) file = {status.st_dev, status.st_ino}, size = status.st_size;
    return cached;
}

bool is_readable(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY; }
bool is_writable(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY; }

bool write_back(int fd, off_t offset, Page& page) {
    struct stat status;
    fstat(fd, &status);
    const off_t end = std::min(page.end, status.st_size - offset), begin = page.begin;
    page.begin = page.end = 0;
    return end <= begin || server_write(fd, page.bytes.data() + begin, end - begin, offset + begin) == end - begin;
}

int write_back_all(int fd) {
    File file;
    off_t size;
    if (!is_cached(fd, file, size) || !is_writable(fd)) return 0;
    bool good = true;
    for (auto& [offset, page] : cache()[file])
        if (page.dirty()) good = write_back(fd, offset, page) && good;
    return good ? 0 : -1;
}

void drop_clean(const File& file) {
    const auto found = cache().find(file);
    if (found != cache().end()) std::erase_if(found->second, [](const auto& entry) { return !entry.second.dirty(); });
}

void fetch(int fd, off_t offset, Page& page) {
    page.bytes.fill(0);
    if (server_read(fd, page.bytes.data(), kPage, offset) >= 0) page.complete = true;
}

void change(int fd, off_t offset, Page& page, off_t begin, const char* data, off_t bytes) {
    const off_t end = begin + bytes;
    if (!page.complete && !page.dirty() && bytes < kPage && is_readable(fd)) fetch(fd, offset, page);
    if (!page.complete && page.dirty() && (begin > page.end || end < page.begin)) write_back(fd, offset, page);
    std::memcpy(page.bytes.data() + begin, data, bytes);
    const bool was_dirty = page.dirty();
    page.begin = was_dirty ? std::min(page.begin, begin) : begin;
    page.end = was_dirty ? std::max(page.end, end) : end;
    if (page.end - page.begin == kPage) page.complete = true;
    if (page.complete) page.begin = 0, page.end = kPage;
}

ssize_t cached_write(int fd, const void* data, size_t bytes, off_t at) {
    const std::lock_guard guard(lock());
    File file;
    off_t size;
    if (!is_cached(fd, file, size)) return server_write(fd, data, bytes, at);
    const off_t stop = at + static_cast<off_t>(bytes);
    if (stop > size && server_write(fd, "", 1, stop - 1) != 1) return -1;  // the server knows the size and has room
    for (off_t from = at; from < stop;) {
        const off_t offset = from / kPage * kPage, to = std::min(stop, offset + kPage);
        change(fd, offset, cache()[file][offset], from - offset, static_cast<const char*>(data) + (from - at),
               to - from);
        from = to;
    }
    return static_cast<ssize_t>(bytes);
}

ssize_t cached_read(int fd, void* out, size_t bytes, off_t at) {
    const std::lock_guard guard(lock());
    File file;
    off_t size;
    if (!is_cached(fd, file, size)) return server_read(fd, out, bytes, at);
    const off_t stop = std::min(size, at + static_cast<off_t>(bytes));
    for (off_t from = at; from < stop;) {
        const off_t offset = from / kPage * kPage, to = std::min(stop, offset + kPage);
        Page& page = cache()[file][offset];
        if (!page.complete) {
            if (page.dirty()) write_back(fd, offset, page);
            fetch(fd, offset, page);
            if (!page.complete) return -1;
        }
        std::memcpy(static_cast<char*>(out) + (from - at), page.bytes.data() + (from - offset), to - from);
        from = to;
    }
    return std::max<off_t>(stop - at, 0);
}

int opened(int fd) {
    const std::lock_guard guard(lock());
    File file;
    off_t size;
    if (fd >= 0 && is_cached(fd, file, size)) drop_clean(file);
    return fd;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                                    \
    int name(const char* path, int flags, ...) {                                      \
        NEXT(name);                                                                   \
        va_list rest;                                                                 \
        va_start(rest, flags);                                                        \
        const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                                 \
        return opened(next(path, flags, mode));                                       \
    }
OPEN(open)
OPEN(open64)

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) { return cached_write(fd, data, bytes, at); }
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at) { return cached_write(fd, data, bytes, at); }
ssize_t pread(int fd, void* out, size_t bytes, off_t at) { return cached_read(fd, out, bytes, at); }
ssize_t pread64(int fd, void* out, size_t bytes, off64_t at) { return cached_read(fd, out, bytes, at); }

#define AFTER_WRITING_BACK(name)                \
    int name(int fd) {                          \
        NEXT(name);                             \
        const std::lock_guard guard(lock());    \
        const int written = write_back_all(fd); \
        const int done = next(fd);              \
        return written ? written : done;        \
    }
AFTER_WRITING_BACK(fsync)
AFTER_WRITING_BACK(fdatasync)
AFTER_WRITING_BACK(close)

#define TRUNCATE(name)                                   \
    int name(int fd, off_t bytes) {                      \
        NEXT(name);                                      \
        const std::lock_guard guard(lock());             \
        File file;                                       \
        off_t size;                                      \
        write_back_all(fd);                              \
        if (is_cached(fd, file, size)) drop_clean(file); \
        return next(fd, bytes);                          \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define ADVISE(name)                                                                      \
    int name(int fd, off_t begin, off_t bytes, int advice) {                              \
        NEXT(name);                                                                       \
        const std::lock_guard guard(lock());                                              \
        File file;                                                                        \
        off_t size;                                                                       \
        if (advice == POSIX_FADV_DONTNEED && is_cached(fd, file, size)) drop_clean(file); \
        return next(fd, begin, bytes, advice);                                            \
    }
ADVISE(posix_fadvise)
ADVISE(posix_fadvise64)

}  // extern "C"
