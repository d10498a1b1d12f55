#!/usr/bin/env bash
# rooms.sh: no file includes a room that its own may not include, MPI and HDF5 stay in their rooms, and headers are included by their room's name. The simulation's two
# libraries include nothing of the project, so that they can be taken elsewhere.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

# room FOLDER ALLOWED...: every "x/..." included in the folder's files must begin with an allowed room
room() {
    local folder=$1 line file included allowed found
    shift
    while IFS=: read -r file line; do
        included=$(sed -E 's/.*#include "([^"]+)".*/\1/' <<< "$line")
        case $included in */*) ;; *) complain "$file includes \"$included\" without its room"; continue ;; esac
        found=
        for allowed; do case $included in "$allowed"/*) found=1 ;; esac; done
        [ -n "$found" ] || complain "$file includes \"$included\", but $folder may only include: $*"
    done < <(grep -rsHE '^ *#include "' --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$folder" | sed 's/: *#include/:#include/')
}
room src/core core
room kernels core kernels
room io core io
room src/dist core kernels dist
room src/model core kernels io dist model
room src/train core kernels io dist model train
room src/eval core kernels io dist model eval

room tests/sim/ptx sim/ptx
room tests/sim/runtime sim/ptx sim/runtime

# system FOLDER HEADERS...: besides C++'s own, which have neither '.' nor '/', the folder's files include only these system headers
system() {
    local folder=$1 file included
    shift
    while IFS=: read -r file included; do
        case " $* " in *" $included "*) ;; *) complain "$file includes <$included>, but $folder may only include: $*" ;; esac
    done < <(grep -rsHoE '^ *#include <[^>]*[./][^>]*>' --include='*.h' --include='*.cpp' "$folder" | sed -E 's/: *#include <(.*)>/:\1/')
}
system tests/sim/ptx cxxabi.h immintrin.h sys/mman.h
system tests/sim/runtime dlfcn.h execinfo.h fcntl.h immintrin.h link.h sys/mman.h unistd.h cuda_runtime.h cublas_v2.h nccl.h nvtx3/nvToolsExtMem.h nvtx3/nvtxDetail/nvtxExtTypes.h mpi.h

# outside NAME FOLDERS...: the system header NAME is included only in these folders
outside() {
    local header=$1 file
    shift
    while read -r file; do
        case " $* " in *" $(sed -E 's#^(src/[^/]+|[^/]+)/.*#\1#' <<< "$file") "*) ;; *) complain "$file includes <$header>, which only $* may" ;; esac
    done < <(grep -rslE "#include <$header>" --include='*.h' --include='*.cpp' src kernels io jobs)
}
outside 'mpi\.h' src/dist
outside 'hdf5\.h' io
outside 'CLI/.*' jobs
[ $failures = 0 ]
