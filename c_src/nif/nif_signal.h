/* Ctrl-C for programs that run in the foreground. */
#ifndef CT_NIF_NIF_SIGNAL_H
#define CT_NIF_NIF_SIGNAL_H

#include <erl_nif.h>

/*
 * sigint_to_sigterm() -> ok | {error, system_limit}
 * From now on SIGINT does what SIGTERM does, an orderly end of the BEAM, instead of opening its
 * break menu; a second SIGINT ends it at once. For mix tasks, never called by the library itself.
 */
ERL_NIF_TERM nif_sigint_to_sigterm(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* Takes the handler away again, if it is this library's: its code is about to go. */
void nif_signal_restore(void);

#endif
