# Reads `objdump -d` of an aarch64 program with symbols, and prints each instruction that the
# board's Cortex-A53 lacks, under its function: everything after ARMv8.0-A, and ARMv8.0's
# cryptographic extension, which the Zero 2 W's chip lacks. (It has CRC32.) Hints like `paciasp` and
# `bti` are no-ops on it and allowed. So is `chkfeat`, with which glibc and the unwinder ask for
# guarded control stacks (on the board the answer is always "none"): code after it in the same
# function may use such a stack.
#
# Functions in the list below may contain instructions of the extensions named there: they, or their
# callers, check the CPU first.

BEGIN {
    # glibc selects string functions when the program starts, by the kernel's report of the CPU (ifunc).
    guarded["^__(memcpy|memmove|memset)_mops$"] = "(memory copies)"
    guarded["^__(memcpy|memmove|memset)_(sve|sve_zva64|a64fx)$"] = "(SVE)"
    # Outline atomics: each reads a variable that libgcc or Rust's runtime sets at the start.
    guarded["^__aarch64_(cas|swp|ldadd|ldset|ldclr|ldeor)[0-9]+_(relax|acq|rel|acq_rel|sync)$"] = "(atomics)"
    # glibc's allocator tags memory only if a tunable asks for it and the kernel allows it.
    guarded["^(__libc_|__|_int_|_mid_)?(malloc|calloc|realloc|free|memalign|malloc_usable_size)2?([.]|$)"] = "(memory tags)"
    guarded["^__malloc_arena_thread_freeres([.]|$)"] = "(memory tags)"
    guarded["^__libc_mtag_tag_(zero_)?region$"] = "(memory tags)"
    # The unwinder reads the vector length only for a frame that is described with one.
    guarded["^(uw_update_context(_1)?|_Unwind_GetGR|execute_stack_op)([.]|$)"] = "(SVE)"
    # The crate constant_time_eq checks the CPU for DIT and SB once, and calls this build of its
    # comparison only if it has both.
    guarded["constant_time_eq3dit16with_feat_dit_sb"] = "(ARMv8.3 to 8.7)"
    # The crate sha1 checks with the kernel for SHA2 before it calls this build of its compression
    # function.
    guarded["4sha18compress12aarch64_sha2"] = "(cryptography)"
    # Code that leaves the matrix unit before a long jump first checks whether there is one.
    guarded["^(__libc_arm_za_disable|__arm_za_disable|__arm_tpidr2_save)$"] = "(SME) (SVE)"
}

# The line that opens a function: 0000000000400580 <name>:
/^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3); next }

# An instruction: address, word, mnemonic, operands, separated by tabs.
NF < 3 || $1 !~ /^[0-9a-f]+:$/ { next }
{
    split($0, column, "\t")
    op = column[3]
    on = column[4]
    seen++
    # Older disassemblers print only its number.
    if (op == "chkfeat" || (op == "hint" && on == "#0x28")) { asks_for_stack = name; next }
    why = beyond(op, on)
    if (why == "") next
    if (why == "(guarded stack)" && name == asks_for_stack) { asked[name]; next }
    for (pattern in guarded) if (index(guarded[pattern], why) && name ~ pattern) { asked[name]; next }
    found++
    key = name " " why
    if (!(key in count)) sample[key] = op " " on
    count[key]++
}

END {
    for (key in count) printf "%s, %d times, as in: %s\n", key, count[key], sample[key]
    for (name in asked) names++
    printf "%d instructions, %d of them beyond ARMv8.0-A, besides %d functions that ask first\n", seen, found, names
    if (seen < 1000) { print "that is no program" > "/dev/stderr"; exit 2 }
    exit found > 0
}

# The extension that an instruction belongs to, or nothing.
function beyond(op, on) {
    if (op ~ /^(sdot|udot|usdot|sudot)$/) return "(dot product)"
    if (op ~ /^(smmla|ummla|usmmla)$/) return "(int8 matrix)"
    if (op ~ /^bf(dot|mmla|mlal|cvt|add|sub|mul)/) return "(bfloat16)"
    if (op ~ /^(fmlal|fmlsl)2?$/) return "(half-precision multiply)"
    # Conversion is ARMv8.0's only operation on half-precision numbers.
    if (op ~ /^[fsu][a-z0-9]+$/ && op ~ /^(f|scvtf|ucvtf)/ && op !~ /^fcvt(l2?|n2?)?$/ &&
        (on ~ /(^|[ ,])h[0-9]+/ || on ~ /\.[48]?h/)) return "(half-precision arithmetic)"
    if (op ~ /^sqrdml[as]h$/) return "(rounding multiply)"
    if (op ~ /^(casp?|swp|(ld|st)(add|clr|eor|set|[su]max|[su]min))(a|l|al)?[bh]?$/)
        return "(atomics)"
    if (op ~ /^(aes|sha1|sha256|sha512|rax1|xar|bcax|eor3|sm3|sm4)/ || (op ~ /^pmull2?$/ && on ~ /\.1q/))
        return "(cryptography)"
    if (op ~ /^(ldapr|ldapur|stlur|ldiapp|stilp)/) return "(release consistency)"
    if (op ~ /^(fjcvtzs|fcmla|fcadd|frint(32|64)[xz]|cfinv|rmif|setf8|setf16|axflag|xaflag|sb|wfet|wfit)$/)
        return "(ARMv8.3 to 8.7)"
    if (op ~ /^(pac|aut)(ia|ib|da|db|iza|izb|dza|dzb|ga)$/ || op ~ /^(br|blr|ret|eret|ldr)a[ab]z?$/ || op ~ /^xpac[id]$/)
        return "(pointer authentication)"
    if (op ~ /^(irg|gmi|addg|subg|subps?|stz?2?g|ldg|ldgm|stz?gm|stgp)$/) return "(memory tags)"
    if (op ~ /^(cpyf?[pme]|set[pme]|setg[pme])/) return "(memory copies)"
    if (op ~ /^(ld64b|st64b)/) return "(64-byte stores)"
    if (op ~ /^gcs/ || on ~ /gcspr_el0/) return "(guarded stack)"
    if (op ~ /^(smstart|smstop|rdsvl|addsvl)/ || on ~ /(^|[ ,{])za[0-9.\[]/) return "(SME)"
    if (on ~ /(^|[ ,{])z[0-9]+(\.[bhsdq]|[,}]|$)/ || on ~ /(^|[ ,{])p[0-9]+(\/[mz]|\.[bhsd])/ ||
        op ~ /^(ptrue|whilel|cnt[bhwd]$|inc[bhwd]$|rdvl|addvl|addpl|rdffr)/) return "(SVE)"
    if (op ~ /^(abs|cnt|ctz|[su]max|[su]min)$/ && on ~ /^[wx][0-9z]/) return "(CSSC)"
    return ""
}
