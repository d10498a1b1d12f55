// The POSIX calls behind io/file.h: each is checked in one place, interrupted calls are repeated, and partial reads
// and writes are continued.
#include "io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "io/own_file.h"

namespace longlora {

namespace {

[[noreturn]] void fail_system(const std::string& what, const std::string& path, int error) {
    fail(text("cannot ", what, " ", path, ": ", std::strerror(error)));
}

int open_file(const std::string& path, int flags, const char* what) {
    int fd;
    do fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) fail_system(what, path, errno);
    return fd;
}

/// The most bytes of one system call: Linux transfers at most about 2 GiB at once.
constexpr std::int64_t kMostAtOnce = std::int64_t{1} << 30;

}  // namespace

FileHandle FileHandle::open_read(const std::string& path) {
    struct stat status;
    if (::stat(path.c_str(), &status) == 0) {
        require(!S_ISDIR(status.st_mode), "cannot read ", path, ": it is a folder");
        require(S_ISREG(status.st_mode), "cannot read ", path, ": it is not a regular file");
    }
    return FileHandle(path, open_file(path, O_RDONLY, "open"));
}
FileHandle FileHandle::open_folder(const std::string& path) {
    return FileHandle(path, open_file(path, O_RDONLY | O_DIRECTORY, "open"));
}
FileHandle FileHandle::open_write(const std::string& path) {
    return FileHandle(path, open_file(path, O_WRONLY, "open for writing"));
}
FileHandle FileHandle::create(const std::string& path) {
    FileHandle file(path, open_file(path, O_WRONLY | O_CREAT, "create"));
    if (!has_only_its_name(file)) {
        remove_file(path);
        file = FileHandle(path, open_file(path, O_WRONLY | O_CREAT, "create"));
    }
    if (file.size() > 0) file.truncate(0);
    return file;
}
FileHandle FileHandle::open_or_create(const std::string& path) {
    return FileHandle(path, open_file(path, O_WRONLY | O_CREAT, "create"));
}
FileHandle FileHandle::create_exclusive(const std::string& path) {
    int fd;
    do fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno != EEXIST) fail_system("create", path, errno);
    return FileHandle(path, fd);
}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
}

FileHandle::~FileHandle() {
    if (fd_ >= 0 && ::close(fd_) != 0)
        std::fprintf(stderr, "warning: closing %s: %s\n", path_.c_str(), std::strerror(errno));
}

std::int64_t FileHandle::size() const {
    struct stat status;
    if (::fstat(fd_, &status) != 0) fail_system("find the size of", path_, errno);
    return status.st_size;
}

std::int64_t FileHandle::read_some(void* out, std::int64_t bytes, std::int64_t offset) const {
    std::int64_t done = 0;
    while (done < bytes) {
        const ssize_t n =
            ::pread(fd_, static_cast<char*>(out) + done, std::min(bytes - done, kMostAtOnce), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_system("read", path_, errno);
        if (n == 0) break;
        done += n;
    }
    return done;
}

void FileHandle::read_at(void* out, std::int64_t bytes, std::int64_t offset) const {
    const std::int64_t n = read_some(out, bytes, offset);
    require(n == bytes, path_, " is cut short: it ends at byte ", offset + n, " where ", bytes - n,
            " more are expected");
}

void FileHandle::write_at(const void* data, std::int64_t bytes, std::int64_t offset) const {
    std::int64_t done = 0;
    while (done < bytes) {
        const ssize_t n =
            ::pwrite(fd_, static_cast<const char*>(data) + done, std::min(bytes - done, kMostAtOnce), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_system("write", path_, errno);
        done += n;
    }
}

void FileHandle::reserve(std::int64_t bytes) const {
    if (bytes <= 0) return;
    int result;
    do result = ::fallocate(fd_, 0, 0, bytes);
    while (result != 0 && errno == EINTR);
    if (result == 0) return;
    if (errno != EOPNOTSUPP && errno != ENOSYS) fail_system(text("reserve ", bytes, " bytes for"), path_, errno);
    struct statvfs free_space;
    if (::fstatvfs(fd_, &free_space) == 0) {
        const auto free_bytes =
            static_cast<std::int64_t>(free_space.f_bavail) * static_cast<std::int64_t>(free_space.f_frsize);
        if (free_bytes + size() < bytes) fail_system(text("reserve ", bytes, " bytes for"), path_, ENOSPC);
    }
    if (size() < bytes) truncate(bytes);
}

void FileHandle::truncate(std::int64_t bytes) const {
    if (::ftruncate(fd_, bytes) != 0) fail_system("set the size of", path_, errno);
}

void FileHandle::sync() const {
    if (::fsync(fd_) != 0) fail_system("write to disk", path_, errno);
}

void FileHandle::forget_cached() const { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

MappedFile::MappedFile(const std::string& path) : path_(path) {
    const FileHandle file = FileHandle::open_read(path);
    size_ = file.size();
    if (size_ == 0) return;
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd(), 0);
    if (address == MAP_FAILED) fail_system("map", path, errno);
    data_ = static_cast<const std::byte*>(address);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text_file(const std::string& path) {
    const FileHandle file = FileHandle::open_read(path);
    std::string content;
    std::int64_t offset = 0;
    for (;;) {  // in pieces, as files in /proc report a size of 0
        content.resize(static_cast<std::size_t>(offset) + (1 << 16));
        const std::int64_t n = file.read_some(content.data() + offset, 1 << 16, offset);
        offset += n;
        if (n < (1 << 16)) break;
    }
    content.resize(offset);
    return content;
}

void write_text_file(const std::string& path, std::string_view content, const std::string& writer) {
    const std::string partial = path + (writer.empty() ? "" : "." + writer) + ".partial";
    try {
        const FileHandle file = FileHandle::create(partial);
        file.write_at(content.data(), content.size(), 0);
        file.sync();
        rename_file(partial, path);
    } catch (const Error&) {
        ::unlink(partial.c_str());
        throw;
    }
}

void rename_file(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0)
        fail(text("cannot rename ", from, " to ", to, ": ", std::strerror(errno)));
    sync_folder(folder_of(to));
}

void remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_system("remove", path, errno);
}

bool file_exists(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0;
}

bool is_folder(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::string file_identity(const std::string& path) {
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) fail_system("find", path, errno);
    return text(status.st_dev, ':', status.st_ino);
}

void create_folders(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    require(!error && is_folder(path), "cannot create the folder ", path, ": ",
            error ? error.message() : "a file of this name exists");
}

std::string folder_of(const std::string& path) {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    return parent.empty() ? "." : parent;
}

void sync_folder(const std::string& folder) {
    const FileHandle handle = FileHandle::open_folder(folder);
    // EINVAL: this file system cannot sync folders.
    if (::fsync(handle.fd()) != 0 && errno != EINVAL) fail_system("write to disk", folder, errno);
}

}  // namespace longlora
