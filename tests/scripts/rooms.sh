#!/usr/bin/env bash
# rooms.sh: no file includes a room that its own room may not include; MPI, HDF5 and CLI11 are included only in their
# rooms; and every include names the room of the header. The two libraries of the simulation (tests/sim) include nothing
# else of the project, so that other projects can use them.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

# room FOLDER ALLOWED...: every "x/..." that a file in FOLDER includes must begin with an allowed room.
room() {
    local folder=$1 line file included allowed found
    shift
    while IFS=: read -r file line; do
        included=$(sed -E 's/.*#include "([^"]+)".*/\1/' <<< "$line")
        case $included in
            */*) ;;
            *) complain "$file includes \"$included\" without its room"; continue ;;
        esac
        found=
        for allowed; do case $included in "$allowed"/*) found=1 ;; esac; done
        [ -n "$found" ] || complain "$file includes \"$included\", but $folder may only include: $*"
    done < <(grep -rsHE '^ *#include "' --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$folder" |
        sed 's/: *#include/:#include/')
}
room src/core core
room kernels core kernels
room io core io
room src/parallel core kernels parallel
room src/model core kernels io parallel model
room src/run core io run
room src/train core kernels io parallel model run train
room src/eval core kernels io parallel model eval

# The sub-rooms of jobs: each line has a folder and the folders that it may include besides the rooms below jobs. It may
# include only itself and folders of earlier lines, so that there are no circles.
below_jobs='core kernels io parallel model run train eval'
sub_rooms='command_line
process: command_line
experiment: command_line
plan: command_line process experiment
train: command_line process experiment plan
evaluate: command_line process
prepare: command_line process
export: command_line process
inspect: command_line process'
earlier=' '
while IFS=: read -r folder others; do
    allowed=$below_jobs
    for other in $folder $others; do allowed+=" jobs/$other"; done
    for other in $others; do
        case $earlier in
            *" $other "*) ;;
            *) complain "jobs/$folder may include jobs/$other, which the table lists later" ;;
        esac
    done
    earlier+="$folder "
    # shellcheck disable=SC2086  # a list of words
    room "jobs/$folder" $allowed
done <<< "$sub_rooms"
for folder in jobs/*/; do  # every folder with code must be in the table
    folder=$(basename "$folder")
    if compgen -G "jobs/$folder/*.cpp" > /dev/null; then
        case $earlier in
            *" $folder "*) ;;
            *) complain "jobs/$folder is not in the table of sub-rooms" ;;
        esac
    fi
done

room tests/sim/ptx sim/ptx
room tests/sim/runtime sim/ptx sim/runtime

# system FOLDER HEADERS...: the files in FOLDER include only these system headers and those of C++, whose names have
# neither '.' nor '/'.
system() {
    local folder=$1 file included
    shift
    while IFS=: read -r file included; do
        case " $* " in
            *" $included "*) ;;
            *) complain "$file includes <$included>, but $folder may only include: $*" ;;
        esac
    done < <(grep -rsHoE '^ *#include <[^>]*[./][^>]*>' --include='*.h' --include='*.cpp' "$folder" |
        sed -E 's/: *#include <(.*)>/:\1/')
}
system tests/sim/ptx cxxabi.h immintrin.h sys/mman.h
system tests/sim/runtime dlfcn.h execinfo.h fcntl.h immintrin.h link.h sys/mman.h unistd.h \
    cuda_runtime.h cublas_v2.h nccl.h nvtx3/nvToolsExtMem.h nvtx3/nvtxDetail/nvtxExtTypes.h mpi.h

# outside NAME FOLDERS...: the system header NAME is included only in these folders.
outside() {
    local header=$1 file
    shift
    while read -r file; do
        case " $* " in
            *" $(sed -E 's#^(src/[^/]+|[^/]+)/.*#\1#' <<< "$file") "*) ;;
            *) complain "$file includes <$header>, which only $* may include" ;;
        esac
    done < <(grep -rslE "#include <$header>" --include='*.h' --include='*.cpp' src kernels io jobs)
}
outside 'mpi\.h' src/parallel
outside 'hdf5\.h' io
outside 'CLI/.*' jobs
[ $failures = 0 ]
