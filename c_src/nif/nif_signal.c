/* SIGINT as SIGTERM: the BEAM lets Erlang code handle many signals, but not this one. */
#define _POSIX_C_SOURCE 200809L

#include "nif/nif_signal.h"

#include "nif/nif.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Both functions are async-signal-safe (POSIX.1-2017 §2.4.3). */
static void on_sigint(int signum)
{
    (void)signum;
    (void)kill(getpid(), SIGTERM);
}

static bool set_handler(void (*handler)(int), int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGINT, &action, NULL) == 0;
}

ERL_NIF_TERM nif_sigint_to_sigterm(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    const struct nif_atoms *atoms = nif_atoms(env);

    /* RESETHAND: the second one finds the default action. */
    if (!set_handler(on_sigint, (int)(SA_RESTART | SA_RESETHAND)))
        return enif_make_tuple2(env, atoms->error, atoms->system_limit);
    return atoms->ok;
}

void nif_signal_restore(void)
{
    struct sigaction now;

    if (sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == on_sigint)
        (void)set_handler(SIG_DFL, 0);
}
