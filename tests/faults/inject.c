/* inject.c: a library for LD_PRELOAD that makes one call of one rank fail, so that tests can see how the program
 * reacts. It is no part of the program. In any other process (mpirun, srun, shells) it only passes calls on.
 *
 *   FAULT="call=NAME,do=ACTION[,rank=R][,path=GLOB][,when=FILE][,bytes=N][,nth=N][,times=N]"
 *   FAULT_LOG=FILE    the library adds a line to FILE for each fault that struck
 *
 *   call    open create read write reserve truncate sync rename unlink mkdir link | map | memory allocate | compute |
 *           send receive test gather broadcast exchange reduce
 *             create             an open with O_CREAT
 *             map                an mmap of a file
 *             memory, allocate   an mmap without a file, a malloc or aligned_alloc, of at least bytes=N (1 MiB)
 *             compute            a matrix product of oneDNN
 *             send ... reduce    the MPI call
 *   do      what happens to the call:
 *             the name of an errno (EIO, ENOSPC, EDQUOT, EROFS, EACCES, ENOMEM ...)
 *                                the call fails with this errno and does nothing; MPI returns MPI_ERR_OTHER, oneDNN
 *                                an error
 *             kill, stop, abort  the process gets SIGKILL, SIGSTOP or SIGABRT before the call
 *             delay=SECONDS      the call is made later
 *             short              a write writes only half of its bytes
 *             flip               a write changes one bit of the byte in its middle, and reports success
 *   rank    the rank that fails; any rank if absent
 *   path    the path of the file (of a rename, the old or the new one); any path if absent
 *   when    the fault strikes only while FILE exists, so that it can wait for a moment of the run;
 *           FILE may be relative to the folder in which the process started
 *   nth     the first matching call that fails (1)
 *   times   how many matching calls fail from there on (1; 0: all)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { kPathBytes = 4096 };

static struct {
    int armed, rank, error, signal, is_short, is_flip;
    long nth, times, bytes;
    double delay;
    char call[32], path[256], when[kPathBytes], action[32], log[kPathBytes];
} fault;
static atomic_long matches;
static _Thread_local int inside;

static int error_of(const char* name) {
    for (int error = 1; error < 134; ++error)
        if (strerrorname_np(error) && !strcmp(strerrorname_np(error), name)) return error;
    return 0;
}

static int rank_of_process(void) {
    static const char* const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (getenv(names[i])) return atoi(getenv(names[i]));
    return 0;
}

static void refuse(const char* what) {
    fprintf(stderr, "inject: FAULT is not understood: %s\n", what);
    _exit(99);
}

/* Whether this process is the program or one of its tests: launchers and shells inherit the environment, too. */
static int is_ours(void) {
    const char* name = program_invocation_short_name;
    return !strcmp(name, "longlora") || !strncmp(name, "test_", 5);
}

static void set_action(const char* value) {
    snprintf(fault.action, sizeof fault.action, "%s", value);
    if (!strcmp(value, "kill")) fault.signal = SIGKILL;
    else if (!strcmp(value, "stop")) fault.signal = SIGSTOP;
    else if (!strcmp(value, "abort")) fault.signal = SIGABRT;
    else if (!strcmp(value, "short")) fault.is_short = 1;
    else if (!strcmp(value, "flip")) fault.is_flip = 1;
    else if (!strncmp(value, "delay=", 6)) fault.delay = atof(value + 6);
    else if (!(fault.error = error_of(value))) refuse(value);
}

static void set_field(const char* name, const char* value) {
    if (!strcmp(name, "call")) snprintf(fault.call, sizeof fault.call, "%s", value);
    else if (!strcmp(name, "path")) snprintf(fault.path, sizeof fault.path, "%s", value);
    else if (!strcmp(name, "rank")) fault.rank = atoi(value);
    else if (!strcmp(name, "nth")) fault.nth = atol(value);
    else if (!strcmp(name, "times")) fault.times = atol(value);
    else if (!strcmp(name, "bytes")) fault.bytes = atol(value);
    else if (!strcmp(name, "do")) set_action(value);
    else if (!strcmp(name, "when")) {
        char here[kPathBytes / 2] = "";
        if (value[0] != '/' && !getcwd(here, sizeof here)) refuse(value);
        snprintf(fault.when, sizeof fault.when, "%s/%s", here, value);
    } else refuse(name);
}

__attribute__((constructor)) static void read_fault(void) {
    const char* text = getenv("FAULT");
    if (!text || !*text || !is_ours()) return;
    fault.rank = -1, fault.nth = 1, fault.times = 1, fault.bytes = 1 << 20;
    strcpy(fault.path, "*");
    char copy[2 * kPathBytes];
    snprintf(copy, sizeof copy, "%s", text);
    char* rest = copy;
    for (char* field; (field = strsep(&rest, ","));) {
        char* value = strchr(field, '=');
        if (!value) refuse(field);
        *value++ = 0;
        set_field(field, value);
    }
    if (!fault.call[0] || !fault.action[0]) refuse(text);
    if (getenv("FAULT_LOG")) snprintf(fault.log, sizeof fault.log, "%s", getenv("FAULT_LOG"));
    fault.armed = fault.rank < 0 || fault.rank == rank_of_process();
}

/* Writes a line to FAULT_LOG by direct system calls, as this library must not call the functions that it replaces. */
static void note(const char* path) {
    if (!fault.log[0]) return;
    char line[kPathBytes + 128];
    const int length =
        snprintf(line, sizeof line, "rank %d: %s of %s: %s\n", rank_of_process(), fault.call, path, fault.action);
    const long file = syscall(SYS_openat, AT_FDCWD, fault.log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0) return;
    syscall(SYS_write, file, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
    syscall(SYS_close, file);
}

/* Whether this call must fail or be short; sets errno if it must fail. Sends signals and waits for delays itself. */
static int strikes(const char* call, const char* path) {
    if (!fault.armed || inside || strcmp(call, fault.call)) return 0;
    const int errno_before = errno;
    inside = 1;
    int struck = 0;
    if (!fnmatch(fault.path, path, 0) && (!fault.when[0] || syscall(SYS_access, fault.when, F_OK) == 0)) {
        const long match = atomic_fetch_add(&matches, 1) + 1;
        struck = match >= fault.nth && (fault.times == 0 || match < fault.nth + fault.times);
    }
    errno = errno_before;
    if (struck) {
        note(path);
        if (fault.signal == SIGABRT) abort();
        if (fault.signal) syscall(SYS_kill, getpid(), fault.signal);
        const struct timespec pause = {(time_t)fault.delay, (long)(1e9 * (fault.delay - (double)(time_t)fault.delay))};
        if (fault.delay > 0) nanosleep(&pause, NULL);
        errno = fault.error ? fault.error : errno_before;
    }
    inside = 0;
    return struck && (fault.error || fault.is_short || fault.is_flip);
}

/* Like strikes(), for a call on an open file. */
static int strikes_file(const char* call, int fd) {
    if (!fault.armed || inside || strcmp(call, fault.call)) return 0;
    char link[64], path[kPathBytes];
    const int errno_before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const long length = syscall(SYS_readlink, link, path, sizeof path - 1);
    errno = errno_before;
    path[length > 0 ? length : 0] = 0;
    return strikes(call, path);
}

#define NEXT(name)                 \
    static __typeof__(name)* next; \
    if (!next) next = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)

/* ---- files ---- */

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }
static int open_strikes(const char* path, int flags) {
    return strikes("open", path) || ((flags & O_CREAT) && strikes("create", path));
}

#define OPEN(name)                                                       \
    int name(const char* path, int flags, ...) {                         \
        NEXT(name);                                                      \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        const mode_t mode = mode_of(flags, rest);                        \
        va_end(rest);                                                    \
        return open_strikes(path, flags) ? -1 : next(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                             \
    int name(int folder, const char* path, int flags, ...) {                     \
        NEXT(name);                                                              \
        va_list rest;                                                            \
        va_start(rest, flags);                                                   \
        const mode_t mode = mode_of(flags, rest);                                \
        va_end(rest);                                                            \
        return open_strikes(path, flags) ? -1 : next(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                        \
    FILE* name(const char* path, const char* mode) {                                       \
        NEXT(name);                                                                        \
        return open_strikes(path, mode[0] == 'r' ? 0 : O_CREAT) ? NULL : next(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

int creat(const char* path, mode_t mode) {
    NEXT(creat);
    return open_strikes(path, O_CREAT) ? -1 : next(path, mode);
}

ssize_t read(int fd, void* out, size_t bytes) {
    NEXT(read);
    return strikes_file("read", fd) ? -1 : next(fd, out, bytes);
}
ssize_t pread(int fd, void* out, size_t bytes, off_t at) {
    NEXT(pread);
    return strikes_file("read", fd) ? -1 : next(fd, out, bytes, at);
}
ssize_t pread64(int fd, void* out, size_t bytes, off64_t at) {
    NEXT(pread64);
    return strikes_file("read", fd) ? -1 : next(fd, out, bytes, at);
}

extern void* __libc_malloc(size_t);

/* The bytes with one bit changed. They are never freed: a fault strikes once. */
static void* flipped(const void* data, size_t bytes) {
    char* copy = __libc_malloc(bytes);
    memcpy(copy, data, bytes);
    if (bytes) copy[bytes / 2] ^= 1;
    return copy;
}

ssize_t write(int fd, const void* data, size_t bytes) {
    NEXT(write);
    if (strikes_file("write", fd)) {
        if (fault.is_flip) return next(fd, flipped(data, bytes), bytes);
        return fault.is_short ? next(fd, data, (bytes + 1) / 2) : -1;
    }
    return next(fd, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
    NEXT(pwrite);
    if (strikes_file("write", fd)) {
        if (fault.is_flip) return next(fd, flipped(data, bytes), bytes, at);
        return fault.is_short ? next(fd, data, (bytes + 1) / 2, at) : -1;
    }
    return next(fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at) {
    NEXT(pwrite64);
    if (strikes_file("write", fd)) {
        if (fault.is_flip) return next(fd, flipped(data, bytes), bytes, at);
        return fault.is_short ? next(fd, data, (bytes + 1) / 2, at) : -1;
    }
    return next(fd, data, bytes, at);
}

int fallocate(int fd, int mode, off_t at, off_t bytes) {
    NEXT(fallocate);
    return strikes_file("reserve", fd) ? -1 : next(fd, mode, at, bytes);
}
int fallocate64(int fd, int mode, off64_t at, off64_t bytes) {
    NEXT(fallocate64);
    return strikes_file("reserve", fd) ? -1 : next(fd, mode, at, bytes);
}
int posix_fallocate(int fd, off_t at, off_t bytes) {
    NEXT(posix_fallocate);
    return strikes_file("reserve", fd) ? fault.error : next(fd, at, bytes);
}
int ftruncate(int fd, off_t bytes) {
    NEXT(ftruncate);
    return strikes_file("truncate", fd) ? -1 : next(fd, bytes);
}
int ftruncate64(int fd, off64_t bytes) {
    NEXT(ftruncate64);
    return strikes_file("truncate", fd) ? -1 : next(fd, bytes);
}
int fsync(int fd) {
    NEXT(fsync);
    return strikes_file("sync", fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(fdatasync);
    return strikes_file("sync", fd) ? -1 : next(fd);
}

int rename(const char* from, const char* to) {
    NEXT(rename);
    const char* path = fault.armed && fnmatch(fault.path, to, 0) == 0 ? to : from;
    return strikes("rename", path) ? -1 : next(from, to);
}
int link(const char* from, const char* to) {
    NEXT(link);
    return strikes("link", to) ? -1 : next(from, to);
}
int unlink(const char* path) {
    NEXT(unlink);
    return strikes("unlink", path) ? -1 : next(path);
}
int mkdir(const char* path, mode_t mode) {
    NEXT(mkdir);
    return strikes("mkdir", path) ? -1 : next(path, mode);
}

/* ---- memory ---- */

static int memory_strikes(const char* call, size_t bytes) {
    return fault.armed && bytes >= (size_t)fault.bytes && strikes(call, "memory");
}

void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t at) {
    NEXT(mmap);
    const int struck = fd < 0 ? memory_strikes("memory", bytes) : strikes_file("map", fd);
    return struck ? MAP_FAILED : next(address, bytes, protection, flags, fd, at);
}
void* mmap64(void* address, size_t bytes, int protection, int flags, int fd, off64_t at) {
    NEXT(mmap64);
    const int struck = fd < 0 ? memory_strikes("memory", bytes) : strikes_file("map", fd);
    return struck ? MAP_FAILED : next(address, bytes, protection, flags, fd, at);
}

/* Calls glibc's malloc by its internal names, since dlsym itself may allocate. */
extern void* __libc_memalign(size_t, size_t);
void* malloc(size_t bytes) { return memory_strikes("allocate", bytes) ? NULL : __libc_malloc(bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) {
    return memory_strikes("allocate", bytes) ? NULL : __libc_memalign(alignment, bytes);
}

/* ---- computing: the matrix products of oneDNN, whose out_of_memory is 1 and whose runtime_error is 5 ---- */

static int dnnl_error(void) { return fault.error == ENOMEM ? 1 : 5; }
int dnnl_sgemm(char ta, char tb, long m, long n, long k, float alpha, const float* a, long lda, const float* b,
               long ldb, float beta, float* c, long ldc);
int dnnl_sgemm(char ta, char tb, long m, long n, long k, float alpha, const float* a, long lda, const float* b,
               long ldb, float beta, float* c, long ldc) {
    NEXT(dnnl_sgemm);
    return strikes("compute", "dnnl_sgemm") ? dnnl_error() : next(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
int dnnl_primitive_execute(const void* primitive, void* stream, int count, const void* arguments);
int dnnl_primitive_execute(const void* primitive, void* stream, int count, const void* arguments) {
    NEXT(dnnl_primitive_execute);
    return strikes("compute", "dnnl_primitive_execute") ? dnnl_error() : next(primitive, stream, count, arguments);
}

/* ---- communication: the MPI calls of the program; calls inside Open MPI do not come here ---- */

#define MPI(call, name, parameters, arguments)                        \
    int name parameters {                                             \
        NEXT(name);                                                   \
        return strikes(call, #name) ? MPI_ERR_OTHER : next arguments; \
    }
MPI("send", MPI_Isend,
    (const void* data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request),
    (data, n, type, to, tag, comm, request))
MPI("receive", MPI_Irecv, (void* out, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request* request),
    (out, n, type, from, tag, comm, request))
MPI("test", MPI_Test, (MPI_Request * request, int* done, MPI_Status* status), (request, done, status))
MPI("gather", MPI_Iallgather,
    (const void* in, int n, MPI_Datatype type, void* out, int m, MPI_Datatype to, MPI_Comm comm, MPI_Request* request),
    (in, n, type, out, m, to, comm, request))
MPI("gather", MPI_Iallgatherv,
    (const void* in, int n, MPI_Datatype type, void* out, const int* counts, const int* at, MPI_Datatype to,
     MPI_Comm comm, MPI_Request* request),
    (in, n, type, out, counts, at, to, comm, request))
MPI("broadcast", MPI_Ibcast, (void* data, int n, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request* request),
    (data, n, type, root, comm, request))
MPI("exchange", MPI_Ialltoallv,
    (const void* in, const int* counts, const int* at, MPI_Datatype type, void* out, const int* out_counts,
     const int* out_at, MPI_Datatype to, MPI_Comm comm, MPI_Request* request),
    (in, counts, at, type, out, out_counts, out_at, to, comm, request))
MPI("reduce", MPI_Iallreduce,
    (const void* in, void* out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm, MPI_Request* request),
    (in, out, n, type, op, comm, request))
