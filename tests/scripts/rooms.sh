#!/usr/bin/env bash
# rooms.sh: no file includes a room that its own may not include, MPI and HDF5 stay in their rooms, and headers are included by their room's name.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

# room FOLDER ALLOWED...: every "x/..." included in the folder's files must begin with an allowed room
room() {
    local folder=$1 line file included
    shift
    while IFS=: read -r file line; do
        included=$(sed -E 's/.*#include "([^"]+)".*/\1/' <<< "$line")
        case $included in */*) ;; *) complain "$file includes \"$included\" without its room"; continue ;; esac
        case " $* " in *" ${included%%/*} "*) ;; *) complain "$file includes \"$included\", but $folder may only include: $*" ;; esac
    done < <(grep -rsHE '^ *#include "' --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$folder" | sed 's/: *#include/:#include/')
}
room src/core core
room kernels core kernels
room io core io
room src/dist core kernels dist
room src/model core kernels io dist model
room src/train core kernels io dist model train
room src/eval core kernels io dist model eval

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
