# places.awk ADDRESSES PLACES: from places of the simulated runtime to those of the product. ADDRESSES is what 'addr2line -a -i -f -C' says, PLACES has lines 'AREA RULE
# FUNCTION@ADDRESS...'. Prints 'NAME RULE LINES AREA PREFIX': NAME is FUNCTION<CALLER<CALLER..., a CALLER being file:function of the product, up to the first one that
# is no mere wrapper; LINES are theirs, PREFIX is the part of the place that leads there. What tests call themselves is left out. Variables: root, the folder of the
# repository; wrappers, a pattern of files whose callers are asked for as well.
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
