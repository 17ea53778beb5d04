/* The frames that the BEAM sends: a table of tuples, each with its answer (docs/control.md). */
#ifndef CT_RELAY_COMMAND_H
#define CT_RELAY_COMMAND_H

#include "relay/daemon.h"

/* Follows one frame; what is not in the table, or not of its shape, ends the relay. */
void command_handle(struct daemon *d, struct term_in *term);

/* A worker has done its part; the last one's answer makes the reply. */
void command_answered(struct daemon *d, struct job *job);

#endif
