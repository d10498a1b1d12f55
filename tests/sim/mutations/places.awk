# places.awk ADDRESSES PLACES: turns places of the simulated runtime into places of the product. host.sh runs it.
# Input: ADDRESSES is the output of 'addr2line -a -i -f -C'; PLACES has lines 'AREA RULE FUNCTION@ADDRESS...'.
# Output: lines 'NAME RULE LINES AREA PREFIX'.
#   NAME     FUNCTION<CALLER<CALLER...; a CALLER is file:function of the product, up to the first one that is no wrapper
#   LINES    the line numbers of the callers
#   PREFIX   the part of the place that leads to the last caller
# It leaves out calls that the tests themselves make.
# Variables: root, the folder of the repository; wrappers, a pattern of the files that only wrap calls, whose callers
# belong to NAME as well.
BEGIN { silent = "^(kernels/cuda/(memory[.]h|device[.]cpp|cuda_check[.]h)|src/core/error[.]h)$" }
function short(name) {
    gsub(/ ?\[clone [^]]*\]/, "", name)
    while (sub(/\([^()]*\)/, "", name) || sub(/<[^<>]*>/, "", name)) {}
    sub(/( const)? *$/, "", name)
    sub(/.*(::| )/, "", name)
    return name ~ /^operator/ ? "lambda" : name
}
NR == FNR && /^0x/ { address = $1; sub(/^0x0*/, "", address); frames[address] = 0; expects = "what"; next }
NR == FNR && expects == "what" { what = short($0); expects = "where"; next }
NR == FNR {
    expects = "what"
    at = address SUBSEP frames[address]++
    file = $1
    sub(/:[0-9?]+$/, "", file)
    lines[at] = substr($1, length(file) + 2)
    if (index(file, root "/") == 1) file = substr(file, length(root) + 2)
    sub(/^\.\//, "", file)
    files[at] = file
    whats[at] = what
    next
}
{
    count = split($3, part, "@")
    name = prefix = part[1]
    where = ""
    ends = 0
    for (i = 2; i <= count && !ends; ++i) {
        for (n = 0; n < frames[part[i]] && !ends; ++n) {
            at = part[i] SUBSEP n
            file = files[at]
            if (file ~ /^tests\/sim\// || file !~ /^(src|kernels|io|jobs|tests)\//) continue
            if (file ~ /^tests\//) { ends = 2; break }
            own = whats[at] ~ /^~/ || (part[1] == "cudaEventQuery" && file ~ /device.cpp$/)
            if (file ~ silent && !own) continue
            stem = file
            sub(/.*\//, "", stem)
            sub(/\..*/, "", stem)
            caller = stem ":" whats[at]
            if (name !~ "<" caller "$") name = name "<" caller
            where = where (where == "" ? "" : ",") lines[at]
            if (own || file !~ wrappers) ends = 1
        }
        if (ends < 2) prefix = prefix "@" part[i]
    }
    if (where != "") print name, $2, where, $1, prefix
}
