/*
 * What a process that parses other people's packets can do without: other programs, files, other
 * processes' memory.
 */
#ifndef CT_RELAY_SANDBOX_H
#define CT_RELAY_SANDBOX_H

enum {
    SANDBOX_TEXT_MAX = 160
};

/*
 * Gives up, for good and for all threads started from now on, what the kernel lets us give up:
 * new privileges, core dumps, starting programs, tracing, files. Sockets and threads stay. Never
 * fails; `summary` says what is in force.
 */
void sandbox_apply(char summary[SANDBOX_TEXT_MAX]);

/* The same, but nothing in sanitizer builds: their reports need files and another process. */
void sandbox_enter(char summary[SANDBOX_TEXT_MAX]);

#endif
