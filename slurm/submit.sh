#!/usr/bin/env bash
# submit.sh: writes a job's folder and submits the job to Slurm. Run it on a login node. It refuses wrong input with
# exit code 2 and a job that does not fit with exit code 3, before it creates or submits anything.
#   submit.sh train PRESET RUN [SETTINGS] [-- options of 'longlora train']
#   submit.sh sweep PRESET FOLDER --groups 4096,8192 [SETTINGS] [-- options of 'longlora train']
#   submit.sh evaluate TABLE FOLDER [SETTINGS] [-- options of 'longlora evaluate']
#   submit.sh prepare OUT.h5 [SETTINGS] -- INPUT... [options of 'longlora prepare']
# PRESET is a name in jobs/presets or a TOML file with options of 'longlora train'. SETTINGS override those in site.env
# and have the same names: --nodes 4, --ranks-per-node 8, --time 12:00:00 ... There are also:
#   --elastic MIN   (train, sweep) start with MIN to --nodes nodes, also after a node has failed
#   --chain N       (train) N jobs that follow each other and are never requeued, for sites that forbid requeueing
#   --dry-run       write the folder and do not submit the job
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
settings="PROGRAM PARTITION ACCOUNT SBATCH_OPTIONS TIME LEAD NODES RANKS_PER_NODE THREADS GPUS_PER_NODE"
settings+=" MACHINE LAUNCHER MODULES CONTAINER NETWORK MPIRUN_GRACE"
fail() { echo "submit.sh: $1" >&2; exit "${2:-2}"; }

# ---- the command line and the settings ----

# parse_settings WORDS: sets $positional, $arguments (the words after --) and the settings.
parse_settings() {
    local name
    positional=() arguments=() elastic='' chain='' groups='' dry_run='' MESH=1
    while [ $# -gt 0 ]; do
        case $1 in
            --) shift; arguments=("$@"); return ;;
            --dry-run) dry_run=yes; shift; continue ;;
            --*) ;;
            *) positional+=("$1"); shift; continue ;;
        esac
        [ $# -ge 2 ] && [ "$2" != -- ] || fail "$1 needs a value"
        name=${1#--} name=${name//-/_}
        case $1 in
            --elastic | --chain | --groups) ;;
            *)
                name=${name^^}
                grep -qw -- "$name" <<< "$settings" || fail "unknown setting '$1'; give options of the program after --"
                ;;
        esac
        printf -v "$name" %s "$2"
        shift 2
    done
}

read_site() {
    local site=${LONGLORA_SITE:-$root/slurm/site.env}
    # shellcheck source=slurm/site.env.example
    source "$root/slurm/site.env.example"
    if [ -f "$site" ]; then
        # shellcheck source=/dev/null
        source "$site"
    elif [ -n "${LONGLORA_SITE:-}" ]; then
        fail "LONGLORA_SITE is '$site', which is not a file"
    fi
}

whole() { [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "--$(tr A-Z_ a-z- <<< "$1") is '${!1}', not a whole number above 0"; }

check_settings() {
    local name
    PROGRAM=${PROGRAM:-$root/build/release/longlora}
    for name in NODES RANKS_PER_NODE THREADS LEAD MPIRUN_GRACE; do whole $name; done
    for name in elastic chain; do [ -z "${!name}" ] || whole $name; done
    [[ $GPUS_PER_NODE =~ ^[0-9]+$ ]] || fail "--gpus-per-node is '$GPUS_PER_NODE', not a whole number"
    [ "$GPUS_PER_NODE" = 0 ] || [ "$GPUS_PER_NODE" -ge "$RANKS_PER_NODE" ] ||
        fail "$RANKS_PER_NODE ranks per node have $GPUS_PER_NODE GPUs; every rank needs one"
    [ -z "$elastic" ] || [ "$elastic" -le "$NODES" ] || fail "--elastic $elastic is more than --nodes $NODES"
    case $LAUNCHER in srun | mpirun) ;; *) fail "--launcher is '$LAUNCHER', not srun or mpirun" ;; esac
    [ -x "$PROGRAM" ] || fail "no program '$PROGRAM'; build it (jobs/build.sh) or set PROGRAM in slurm/site.env"
    PROGRAM=$(realpath "$PROGRAM")
    command -v sbatch > /dev/null || fail "there is no sbatch here; run this script on a login node of a Slurm cluster"
}

# resolve_toml PRESET: writes the preset with the options in $arguments to $scratch/train.toml. Makes paths absolute,
# since the job may be submitted again from another folder.
resolve_toml() {
    local name value
    preset=$1
    [ -f "$preset" ] || preset=$root/jobs/presets/$1.toml
    [ -f "$preset" ] || fail "no preset '$1'; there are $(
        cd "$root/jobs/presets" && echo *.toml | sed 's/\.toml//g'), or give a TOML file"
    sed 's/[[:space:]]*$//' "$preset" > "$scratch/train.toml"
    set -- "${arguments[@]}"
    while [ $# -gt 0 ]; do
        [[ $1 == --?* ]] || fail "'$1' is not an option of 'longlora train'"
        name=${1#--} value=true
        if [[ $name == *=* ]]; then
            value=${name#*=} name=${name%%=*}
        elif [ $# -ge 2 ] && [[ $2 != --* ]]; then
            value=$2
            shift
        elif [[ $name == no-* ]]; then
            name=${name#no-} value=false
        fi
        case $name in
            run | config) fail "--$name is not an option here: the run folder and the preset are named before --" ;;
            model | init | adapter | data) value=$(absolute "$name" "$value") || exit ;;
        esac
        sed -i "/^${name}[[:space:]]*=/d" "$scratch/train.toml"
        printf '%s = "%s"\n' "$name" "$value" >> "$scratch/train.toml"
        shift
    done
    # With --device auto, one rank without a working GPU would turn the whole job into one on CPUs.
    if [ "$GPUS_PER_NODE" != 0 ] && ! grep -q '^device[[:space:]]*=' "$scratch/train.toml"; then
        echo 'device = "cuda"' >> "$scratch/train.toml"
    fi
    MESH=$(($(degree pipeline) * $(degree sequence)))
    grep -q '^data *=' "$scratch/train.toml" ||
        fail "no --data; make a token file with 'submit.sh prepare' or 'longlora prepare'"
}

# absolute NAME VALUE: prints VALUE, FILE[:weight],FILE..., with absolute paths; fails if one of the files does not
# exist.
absolute() {
    local part path paths=()
    IFS=, read -ra parts <<< "$2"
    for part in "${parts[@]}"; do
        path=${part%:*}
        [ -e "$path" ] || fail "--$1 $path: there is no such file or folder"
        paths+=("$(realpath "$path")${part#"$path"}")
    done
    (IFS=, && echo "${paths[*]}")
}

# degree NAME: prints the degree of the mesh in train.toml, 1 if it is not there.
degree() {
    local value
    value=$(sed -n "s/^$1 *= *\"\{0,1\}\([0-9]*\).*/\1/p" "$scratch/train.toml")
    echo "${value:-1}"
}

# plan OPTIONS: runs the real step on devices that compute nothing, for the largest and the smallest number of nodes,
# and fails if it does not fit.
plan() {
    local nodes code ranks
    for nodes in $NODES ${elastic:+$elastic}; do
        code=0
        ranks=$((nodes * RANKS_PER_NODE / MESH * MESH))
        [ $ranks -gt 0 ] ||
            fail "$nodes node(s) of $RANKS_PER_NODE rank(s) are fewer than the $MESH ranks of pipeline x sequence"
        "$PROGRAM" plan --config "$scratch/train.toml" --ranks $ranks --machine "$MACHINE" "$@" \
            > "$scratch/plan.txt" 2>&1 || code=$?
        [ $code != 0 ] || continue
        sed "s|$scratch/train.toml|$preset with the options after --|" "$scratch/plan.txt" >&2
        [ $code = 3 ] || exit $code  # the program has said what is wrong
        fail "does not fit $nodes node(s) of $RANKS_PER_NODE rank(s)$(
            [ -z "$*" ] || echo " with $*"); nothing was submitted" 3
    done
}

# ---- the job's folder ----

# The program refuses a second job in the same folder only when that job runs; this refuses it at once.
refuse_second() {
    local id
    for id in $(cat "$job/jobs" 2> /dev/null); do
        if [ -n "$(squeue --noheader --jobs "$id" 2> /dev/null)" ]; then
            fail "job $id, submitted before, still uses $folder; 'scancel $id' ends it"
        fi
    done
}

# write_job SCRIPT: copies the scripts and the files in $scratch to $job and writes the settings there.
write_job() {
    local name
    mkdir -p "$job"
    cp "$root/slurm/common.sh" "$root/slurm/one_gpu.sh" "$root/slurm/collect.sh" "$root/slurm/$1" "$job"
    find "$scratch" -type f -exec cp {} "$job" \;
    {
        echo "# The settings of this job: site.env when submit.sh ran, and the options of submit.sh"
        for name in $settings; do printf '%s=%q\n' "$name" "${!name}"; done
        declare -p groups arguments MESH
    } > "$job/site.env"
    rm -f "$job"/progress-*
}

# write_again SCRIPT ARRAY: writes the sbatch command to a script that submits the job again unchanged.
write_again() {
    local log=$job/slurm-%j.log line
    [ -z "$2" ] || log=$job/slurm-%A_%a.log
    line=(sbatch --parsable --job-name="longlora-$(basename "$folder")" --output="$log" --chdir="$PWD")
    line+=(--nodes="${elastic:+$elastic-}$NODES" --time="$TIME")
    if [ -z "$elastic" ]; then
        line+=(--ntasks-per-node="$RANKS_PER_NODE" --cpus-per-task="$THREADS")
    else
        # If the job asked for tasks, Slurm would give every later start as many tasks as the first one had.
        line+=(--mincpus=$((RANKS_PER_NODE * THREADS)))
    fi
    [ "$GPUS_PER_NODE" = 0 ] || line+=(--gres=gpu:"$GPUS_PER_NODE")
    [ -z "$PARTITION" ] || line+=(--partition="$PARTITION")
    [ -z "$ACCOUNT" ] || line+=(--account="$ACCOUNT")
    [ -z "$2" ] || line+=(--array="$2")
    case $1 in train.sbatch | sweep.sbatch) line+=(--signal="B:USR1@$LEAD") ;; esac
    [ -z "$chain" ] || line+=(--no-requeue --dependency=singleton)
    {
        printf '#!/usr/bin/env bash\n'
        printf '# Submits this job again unchanged; it continues where it stopped. Made by submit.sh.\n'
        printf 'rm -f %q/progress-*\n' "$job"
        printf '%q ' "${line[@]}"
        printf '%s %q %q >> %q\n' "$SBATCH_OPTIONS" "$job/$1" "$folder" "$job/jobs"
    } > "$job/again.sh"
    chmod +x "$job/again.sh"
}

# submit SCRIPT [ARRAY]
submit() {
    local id i
    refuse_second
    write_job "$1"
    write_again "$1" "${2:-}"
    if [ -n "$dry_run" ]; then echo "not submitted; $job/again.sh submits it"; return; fi
    : > "$job/jobs"
    for ((i = 0; i < ${chain:-1}; i++)); do
        "$job/again.sh" || fail "sbatch refused the job; $job/again.sh tries again"
    done
    id=$(sed 's/;.*//' "$job/jobs" | paste -sd ' ')  # with several clusters, sbatch prints 'id;cluster'
    echo "job $id"
    case $1 in
        train.sbatch)
            echo "log      $job/slurm-${id%% *}.log"
            echo "status   $PROGRAM status $folder"
            [ -n "$chain" ] ||
                echo "stop     scontrol update JobId=$id Requeue=0 && scancel --batch --signal=USR1 $id" \
                    "    # finishes the step and saves"
            ;;
        *) echo "log      $job/slurm-$id$([ -z "${2:-}" ] || echo "_N").log" ;;
    esac
    echo "cancel   scancel $id"
    echo "again    $job/again.sh"
}

# ---- kinds of jobs ----

kind=${1:-}
case $kind in
    train | sweep | evaluate | prepare) shift ;;
    *) fail "the first word must be train, sweep, evaluate or prepare; see the first lines of slurm/submit.sh" ;;
esac
read_site
parse_settings "$@"
expected=2
[ "$kind" != prepare ] || expected=1
[ ${#positional[@]} = $expected ] ||
    fail "$kind takes $expected words before --, not ${#positional[@]}; the first lines of slurm/submit.sh show which"
check_settings
folder=$(realpath -m "${positional[-1]}")
job=$folder/job
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

case $kind in
    train)
        resolve_toml "${positional[0]}"
        plan
        submit train.sbatch
        ;;
    sweep)
        [[ $groups =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "--groups is '$groups', not group sizes like 4096,8192"
        resolve_toml "${positional[0]}"
        for group in ${groups//,/ }; do plan --group "$group"; done
        submit sweep.sbatch "0-$(tr -cd , <<< "$groups" | wc -c)"
        ;;
    evaluate)
        [ -f "${positional[0]}" ] || fail "no table '${positional[0]}'; slurm/README.md shows one"
        good='#.*|[[:space:]]*|model +[^ /]+ +-.*|data +[^ /]+ +[^ ]+|context( +[1-9][0-9]*)+'
        bad=$(grep -nvE "^($good)\$" "${positional[0]}" | head -1) || true
        forms="'model NAME OPTIONS', 'data NAME FILE', 'context N ...'"
        [ -z "$bad" ] || fail "${positional[0]}, line ${bad%%:*}: '${bad#*:}' is none of $forms"
        cp "${positional[0]}" "$scratch/table.txt"
        tasks=$(awk '
            $1 == "model" { m++ }
            $1 == "data" { d++ }
            $1 == "context" { c += NF - 1 }
            END { print m * d * c }' "$scratch/table.txt")
        [ "$tasks" -gt 0 ] || fail "${positional[0]} needs a model, a data set and a context"
        while read -r _ _ file; do
            [ -f "$file" ] || fail "${positional[0]}: there is no file '$file'"
        done < <(grep '^data ' "$scratch/table.txt")
        submit evaluate.sbatch "0-$((tasks - 1))"
        ;;
    prepare)
        [ ${#arguments[@]} -gt 0 ] || fail "no inputs; give them after --"
        job=$folder.job
        submit prepare.sbatch
        ;;
esac
