// Files of the operating system: handles, complete reads and writes at an offset, memory maps, text files written
// atomically. Every failure is one Error sentence with the path and the system's reason. All functions are safe from
// any thread. File formats are in the other files of io/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace longlora {

/// An open file descriptor, which the destructor closes. Call sync() to learn of write errors: the destructor only
/// warns when close fails. A handle reads or writes, never both (io/shared_file.h). It reads regular files only.
class FileHandle {
public:
    FileHandle() = default;
    static FileHandle open_read(const std::string& path);
    /// Opens an existing file for writing.
    static FileHandle open_write(const std::string& path);
    /// Opens a folder, to sync it.
    static FileHandle open_folder(const std::string& path);
    /// Creates the file, or empties an existing one, whose other names (hard links) keep its content; for writing.
    static FileHandle create(const std::string& path);
    /// Creates the file; returns an empty handle if a file of this name exists. When several processes try this, also
    /// on several machines, exactly one succeeds.
    static FileHandle create_exclusive(const std::string& path);
    /// Opens a file for writing and keeps its content; creates it if it does not exist.
    static FileHandle open_or_create(const std::string& path);
    FileHandle(FileHandle&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
    FileHandle& operator=(FileHandle&& other) noexcept;
    ~FileHandle();

    explicit operator bool() const { return fd_ >= 0; }
    int fd() const { return fd_; }
    const std::string& path() const { return path_; }
    std::int64_t size() const;
    /// Reads all `bytes` bytes. A file that ends earlier is an Error ("is cut short").
    void read_at(void* out, std::int64_t bytes, std::int64_t offset) const;
    /// Reads up to `bytes` bytes, fewer only at the end of the file.
    std::int64_t read_some(void* out, std::int64_t bytes, std::int64_t offset) const;
    void write_at(const void* data, std::int64_t bytes, std::int64_t offset) const;
    /// Reserves disk space, so that later writes inside [0, bytes) cannot run out of it; makes the file at least as
    /// long. On file systems that cannot reserve space, only compares the free space with the need.
    void reserve(std::int64_t bytes) const;
    void truncate(std::int64_t bytes) const;
    void sync() const;
    /// Drops the file from the page cache, so that the next read comes from the disk.
    void forget_cached() const;

private:
    FileHandle(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    std::string path_;
    int fd_ = -1;
};

/// A whole file, mapped read-only. An empty file has data() == nullptr and size() == 0.
class MappedFile {
public:
    MappedFile() = default;
    explicit MappedFile(const std::string& path);
    MappedFile(MappedFile&& other) noexcept
        : path_(std::move(other.path_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    const std::string& path() const { return path_; }
    const std::byte* data() const { return data_; }
    std::int64_t size() const { return size_; }

private:
    std::string path_;
    const std::byte* data_ = nullptr;
    std::int64_t size_ = 0;
};

std::string read_text_file(const std::string& path);
/// Writes the file completely or not at all: writes PATH.partial, fsyncs, renames it and fsyncs the folder. Threads
/// or processes that may write the same file at the same time each give a `writer` name of their own: the temporary
/// file is then PATH.WRITER.partial.
void write_text_file(const std::string& path, std::string_view content, const std::string& writer = "");
/// Renames a file inside its folder and fsyncs that folder.
void rename_file(const std::string& from, const std::string& to);
/// Does nothing if there is no such file.
void remove_file(const std::string& path);
bool file_exists(const std::string& path);
bool is_folder(const std::string& path);
/// Equal for two paths of one file, as seen from one node: the numbers of its file system and of the file. Throws an
/// Error if there is no such file.
std::string file_identity(const std::string& path);
/// Creates the folder and its parents where they do not exist.
void create_folders(const std::string& path);
/// "a/b" -> "a"; "b" -> ".".
std::string folder_of(const std::string& path);
void sync_folder(const std::string& folder);

}  // namespace longlora
