/*
 * Reads test/vectors: lines of words, the first of which names the field. The top of each file says
 * what its fields mean. CT_VECTORS names the directory when tests run from elsewhere.
 *
 * A file that cannot be read, or does not have the form it promises, ends the program.
 */
#ifndef CT_TEST_VECTORS_H
#define CT_TEST_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VECTOR_WORDS = 8,
    VECTOR_LINES = 64,
    VECTOR_LINE_MAX = 640, /* characters of a line, with its end */
    VECTOR_BYTES_MAX = 512,
};

struct vector_line {
    char text[VECTOR_LINE_MAX];  /* the whole line */
    char words[VECTOR_LINE_MAX]; /* the same, cut into words */
    const char *word[VECTOR_WORDS];
    size_t count; /* words */
};

/* The lines from one blank line to the next. */
struct vector_record {
    struct vector_line line[VECTOR_LINES];
    size_t count;
    uint8_t bytes[VECTOR_BYTES_MAX]; /* all its `bytes` lines */
    size_t len;
};

struct vectors {
    char *text; /* the file */
    const char *at;
    const char *name;
};

/* "messages.txt" and so on. */
struct vectors vectors_open(const char *name);
void vectors_close(struct vectors *v);

/* The next line that says something; false at the end. */
bool vectors_line(struct vectors *v, struct vector_line *out);
/* The next record; false at the end. */
bool vectors_record(struct vectors *v, struct vector_record *out);

/* The first line of this field, or NULL. */
const struct vector_line *vector_find(const struct vector_record *r, const char *field);
/* Whether the line is of this field. */
bool vector_is(const struct vector_line *line, const char *field);

/* What follows the first n words, to the end of the line. */
const char *vector_rest(const struct vector_line *line, size_t n);
/* A number, 0x... or decimal. */
uint64_t vector_number(const char *word);
/* Hexadecimal bytes, "-" for none; how many. They must fit. */
size_t vector_hex(const char *word, uint8_t *out, size_t cap);

#endif
