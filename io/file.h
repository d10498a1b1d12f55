// Files of the operating system: handles, whole reads and writes at an offset, memory maps, atomic text files. Every
// failure is one Error sentence with the path and the system's reason. No formats and no MPI; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace longlora {

/// An open file descriptor, closed by its destructor. A failed close after writing is reported by sync(), not by the
/// destructor.
class FileHandle {
public:
    FileHandle() = default;
    static FileHandle open_read(const std::string& path);
    /// For reading and writing; the file must exist.
    static FileHandle open_write(const std::string& path);
    /// For sync only.
    static FileHandle open_folder(const std::string& path);
    /// Creates the file or empties it.
    static FileHandle create(const std::string& path);
    /// Creates the file; an empty handle if there is one of this name already. Of several that try, on any machines,
    /// one succeeds.
    static FileHandle create_exclusive(const std::string& path);
    /// For writing, created if missing, its content left as it is.
    static FileHandle open_or_create(const std::string& path);
    FileHandle(FileHandle&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
    FileHandle& operator=(FileHandle&& other) noexcept;
    ~FileHandle();

    explicit operator bool() const { return fd_ >= 0; }
    int fd() const { return fd_; }
    const std::string& path() const { return path_; }
    std::int64_t size() const;
    /// All bytes or an Error; a file that ends early is an Error ("is cut short").
    void read_at(void* out, std::int64_t bytes, std::int64_t offset) const;
    /// Up to `bytes`, fewer only at the end of the file.
    std::int64_t read_some(void* out, std::int64_t bytes, std::int64_t offset) const;
    void write_at(const void* data, std::int64_t bytes, std::int64_t offset) const;
    /// Reserves disk space so that later writes inside [0, bytes) cannot run out of it; grows the file. Where the file
    /// system cannot reserve, the free space is compared instead.
    void reserve(std::int64_t bytes) const;
    void truncate(std::int64_t bytes) const;
    void sync() const;
    /// What was read before is read from the disk again.
    void forget_cached() const;

private:
    FileHandle(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    std::string path_;
    int fd_ = -1;
};

/// A whole file mapped read-only. An empty file has data() == nullptr and size() == 0.
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
/// Whole or not at all: PATH.partial, fsync, rename, fsync of the folder. Two that may write the same file at once
/// (threads, processes) each give a `writer` of their own: then it is PATH.WRITER.partial.
void write_text_file(const std::string& path, std::string_view content, const std::string& writer = "");
/// Renames and fsyncs the folder of `to`; both are in the same folder.
void rename_file(const std::string& from, const std::string& to);
/// No error if it is not there.
void remove_file(const std::string& path);
bool file_exists(const std::string& path);
bool is_folder(const std::string& path);
/// The folder and its parents, where missing.
void create_folders(const std::string& path);
/// "a/b" -> "a"; "b" -> ".".
std::string folder_of(const std::string& path);
void sync_folder(const std::string& folder);

}  // namespace longlora
