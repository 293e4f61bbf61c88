#!/bin/sh
# Removes from FOLDER, the modules of one kernel (lib/modules/VERSION, after depmod), every driver
# that is neither named in LIST nor needed by one that is: Raspberry Pi's configuration builds some
# 1,500, and the root has room for few.
#
#   prune-modules.sh FOLDER LIST   prints how many are left; the caller runs depmod again
set -eu
[ $# = 2 ] || { echo "usage: prune-modules.sh FOLDER LIST" >&2; exit 2; }
[ -s "$1/modules.dep" ] || { echo "prune-modules: $1 has no modules.dep: run depmod first" >&2; exit 1; }
# In both files, names are compared without folder and extension, with _ for -, as in the kernel.
awk '
    function name(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
    FNR == NR { if ($1 != "" && $1 !~ /^#/) wanted[name($1)] = 1; next }
    { path = $1; sub(/:$/, "", path); at[name(path)] = path; $1 = ""; needs[path] = $0 }
    END {
        for (module in wanted) {
            if (!(module in at)) continue
            kept[at[module]] = 1
            # depmod lists all dependencies, indirect ones too.
            count = split(needs[at[module]], list, " ")
            for (i = 1; i <= count; i++) kept[list[i]] = 1
        }
        for (path in needs) print (path in kept ? "keep " : "drop ") path
    }' "$2" "$1/modules.dep" | while read -r fate path; do
    if [ "$fate" = keep ]; then echo "$path"; else rm -f "$1/$path"; fi
done | wc -l
find "$1" -type d -empty -delete
