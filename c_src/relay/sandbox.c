#include "relay/sandbox.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__linux__) && defined(__has_include) && (defined(__x86_64__) || defined(__aarch64__))
#if __has_include(<linux/seccomp.h>) /* the kernel's headers */
#define SANDBOX 1
#endif
#endif

#ifdef SANDBOX

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- seccomp ---- */

#ifdef __x86_64__
#define ARCH_HERE AUDIT_ARCH_X86_64
#define ABI_LIMIT 0x40000000u /* numbers from here on are x32's names for the same calls */
#else
#define ARCH_HERE AUDIT_ARCH_AARCH64
#define ABI_LIMIT UINT32_MAX
#endif

/* Newer than some kernels' headers. Their numbers are the same everywhere. */
#ifndef __NR_openat2
#define __NR_openat2 437
#endif
#ifndef __NR_clone3
#define __NR_clone3 435
#endif
#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#endif

/* Refused with EPERM. x86-64 has older calls that aarch64 never had. */
static const uint16_t refused[] = {
    __NR_execve,
    __NR_execveat,
    __NR_ptrace,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_openat2, /* its flags are in memory, where a filter cannot look */
    __NR_truncate,
    __NR_mkdirat,
    __NR_mknodat,
    __NR_unlinkat,
    __NR_linkat,
    __NR_symlinkat,
    __NR_renameat2,
    __NR_fchmodat,
    __NR_fchownat,
    __NR_mount,
    __NR_umount2,
    __NR_pivot_root,
    __NR_chroot,
    __NR_setns,
    __NR_unshare,
    __NR_bpf,
    __NR_perf_event_open,
    __NR_userfaultfd,
    __NR_kexec_load,
    __NR_init_module,
    __NR_finit_module,
    __NR_delete_module,
    __NR_add_key,
    __NR_request_key,
    __NR_keyctl,
    __NR_reboot,
    __NR_swapon,
    __NR_swapoff,
#ifdef __NR_renameat
    __NR_renameat,
#endif
#ifdef __x86_64__
    __NR_fork,
    __NR_vfork,
    __NR_creat,
    __NR_mkdir,
    __NR_mknod,
    __NR_rmdir,
    __NR_unlink,
    __NR_link,
    __NR_symlink,
    __NR_rename,
    __NR_chmod,
    __NR_chown,
    __NR_lchown,
#endif
};

/* Refused with ENOSYS: callers know another way, which the filter can look at. */
static const uint16_t unknown[] = {
    __NR_clone3,         /* glibc goes on to clone() */
    __NR_io_uring_setup, /* libuv goes on to epoll; a ring would bypass the filter */
};

enum {
    REFUSED = sizeof refused / sizeof *refused,
    UNKNOWN = sizeof unknown / sizeof *unknown,
    PROGRAM_MAX = 2 * (REFUSED + UNKNOWN) + 32, /* two a call, and the rest of build() */
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short len;
    bool overflow;
};

static void emit(struct program *p, struct sock_filter instruction)
{
    if (p->len < PROGRAM_MAX)
        p->code[p->len++] = instruction;
    else
        p->overflow = true;
}

static void emit_load(struct program *p, size_t offset)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void emit_return(struct program *p, uint32_t action)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* `if (A op k) return action;` with op one of BPF_JEQ, BPF_JGE, BPF_JSET. */
static void emit_if(struct program *p, uint16_t op, uint32_t k, uint32_t action)
{
    emit(p, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | op | BPF_K), k, 0, 1));
    emit_return(p, action);
}

/*
 * For one call: allowed unless its argument has one of the bits (or, with `wanted`, unless it has
 * them). Leaves the accumulator holding the argument, so it ends the program for that call.
 */
static void emit_flags(struct program *p, uint32_t call, unsigned arg, uint32_t bits, bool wanted)
{
    const uint32_t eperm = SECCOMP_RET_ERRNO | EPERM;
    size_t offset = offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t);

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    offset += sizeof(uint32_t);
#endif
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4));
    emit_load(p, offset);
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
    emit_return(p, wanted ? SECCOMP_RET_ALLOW : eperm);
    emit_return(p, wanted ? eperm : SECCOMP_RET_ALLOW);
}

/* Everything that is not named is allowed: a libc of tomorrow must not be broken by this list. */
static void build(struct program *p)
{
    const uint32_t eperm = SECCOMP_RET_ERRNO | EPERM, enosys = SECCOMP_RET_ERRNO | ENOSYS;
    const uint32_t writes = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;

    emit_load(p, offsetof(struct seccomp_data, arch));
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH_HERE, 1, 0));
    emit_return(p, eperm);
    emit_load(p, offsetof(struct seccomp_data, nr));
    emit_if(p, BPF_JGE, ABI_LIMIT, eperm);
    for (size_t i = 0; i < REFUSED; i++)
        emit_if(p, BPF_JEQ, refused[i], eperm);
    for (size_t i = 0; i < UNKNOWN; i++)
        emit_if(p, BPF_JEQ, unknown[i], enosys);
    emit_flags(p, __NR_clone, 0, CLONE_THREAD, true);
    emit_flags(p, __NR_openat, 2, writes, false);
#ifdef __NR_open
    emit_flags(p, __NR_open, 1, writes, false);
#endif
    emit_return(p, SECCOMP_RET_ALLOW);
}

/* Since Linux 4.17. */
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

/*
 * Kernels before 5.16 take a filter as the sign of somebody else's code and make the processor
 * speculate less in such threads (SSBD, STIBP, and IBPB when they are switched to), unless the flag
 * says otherwise: packets would cost more from then on. No foreign code runs here, and a peer's
 * bytes are never code.
 */
static bool filter_calls(void)
{
    struct program p = {.len = 0};

    build(&p);
    struct sock_fprog prog = {.len = p.len, .filter = p.code};
    unsigned long flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (p.overflow)
        return false;
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
    if (result != 0 && errno == EINVAL) /* a kernel that does not know the flag */
        result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
    return result == 0;
}

/* ---- landlock ---- */

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_restrict_self  446
#endif

/* Kernel headers may be older than the kernel: what is needed of them is written out here. */
struct ruleset_attr {
    uint64_t handled_access_fs;
};

enum {
    RULESET_VERSION = 1 << 0
};

/* How many rights on files each version of the interface knows; index 0 is version 1. */
static const uint8_t fs_rights[] = {13, 14, 15, 15, 16};

/* Takes hold of every right on files and grants none. */
static bool forbid_files(void)
{
    long version = syscall(__NR_landlock_create_ruleset, NULL, 0, RULESET_VERSION);

    if (version < 1)
        return false;
    size_t known = sizeof fs_rights / sizeof *fs_rights;
    size_t i = (size_t)version <= known ? (size_t)version - 1 : known - 1;
    struct ruleset_attr attr = {.handled_access_fs = (UINT64_C(1) << fs_rights[i]) - 1};
    long fd = syscall(__NR_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (fd < 0)
        return false;
    bool ok = syscall(__NR_landlock_restrict_self, fd, 0) == 0;
    close((int)fd);
    return ok;
}

void sandbox_apply(char summary[SANDBOX_TEXT_MAX])
{
    bool privileges = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    bool dumps = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
    bool files = privileges && forbid_files();
    bool calls = privileges && filter_calls();

    snprintf(summary, SANDBOX_TEXT_MAX,
             "sandbox: no_new_privs %s, no dumps %s, landlock %s, seccomp %s",
             privileges ? "on" : "off", dumps ? "on" : "off", files ? "on" : "off",
             calls ? "on" : "off");
}

#else

void sandbox_apply(char summary[SANDBOX_TEXT_MAX])
{
    snprintf(summary, SANDBOX_TEXT_MAX, "sandbox: off on this system");
}

#endif

void sandbox_enter(char summary[SANDBOX_TEXT_MAX])
{
#ifdef SANITIZED
    snprintf(summary, SANDBOX_TEXT_MAX, "sandbox: off in a sanitizer build");
#else
    sandbox_apply(summary);
#endif
}
