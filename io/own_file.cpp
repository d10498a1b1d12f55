// One fstat and one lstat show whether a file has other names.
#include "io/own_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace longlora {

bool has_only_its_name(const FileHandle& file) {
    struct stat ours, named;
    return ::fstat(file.fd(), &ours) == 0 && ours.st_nlink == 1 && ::lstat(file.path().c_str(), &named) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

FileHandle open_own_file(const std::string& path) {
    FileHandle file = FileHandle::open_or_create(path);
    if (has_only_its_name(file)) return file;
    write_text_file(path, read_text_file(path));
    return FileHandle::open_write(path);
}

std::string identity_of(const FileHandle& file) {
    struct stat status;
    require(::fstat(file.fd(), &status) == 0, "cannot find ", file.path(), ": ", std::strerror(errno));
    return text(status.st_dev, ':', status.st_ino);
}

}  // namespace longlora
