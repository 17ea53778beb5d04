#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn static void broken(const char *what, const char *where)
{
    fprintf(stderr, "test vectors: %s: %s\n", what, where);
    exit(2);
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    enum {
        FILE_MAX = 1 << 20
    };
    char *text = malloc(FILE_MAX + 1);
    if (!f || !text)
        broken("cannot open", path);
    size_t n = fread(text, 1, FILE_MAX, f);
    if (ferror(f) || n == 0 || n == FILE_MAX)
        broken("cannot read", path);
    text[n] = '\0';
    fclose(f);
    return text;
}

struct vectors vectors_open(const char *name)
{
    const char *dir = getenv("CT_VECTORS");
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/%s", dir ? dir : "test/vectors", name);
    if (n < 0 || (size_t)n >= sizeof path)
        broken("path too long", name);
    char *text = read_all(path);
    return (struct vectors){.text = text, .at = text, .name = name};
}

void vectors_close(struct vectors *v)
{
    free(v->text);
    *v = (struct vectors){0};
}

static void split(struct vector_line *line, const char *name)
{
    char *p = line->words;
    memcpy(line->words, line->text, sizeof line->words);
    line->count = 0;
    for (;;) {
        if (line->count < VECTOR_WORDS)
            line->word[line->count++] = p;
        p = strchr(p, ' ');
        if (!p)
            return;
        *p++ = '\0';
        if (*p == '\0' || *p == ' ')
            broken("words are separated by one space", name);
    }
}

/* The next line but comments, also when it is empty. */
static bool take_line(struct vectors *v, struct vector_line *out)
{
    while (*v->at) {
        const char *end = strchr(v->at, '\n');
        if (!end)
            broken("no end of line", v->name);
        size_t len = (size_t)(end - v->at);
        const char *start = v->at;
        v->at = end + 1;
        if (*start == '#')
            continue;
        if (len >= sizeof out->text)
            broken("line too long", v->name);
        memset(out->text, 0, sizeof out->text);
        memcpy(out->text, start, len);
        split(out, v->name);
        return true;
    }
    return false;
}

bool vectors_line(struct vectors *v, struct vector_line *out)
{
    while (take_line(v, out))
        if (out->text[0])
            return true;
    return false;
}

bool vectors_record(struct vectors *v, struct vector_record *out)
{
    out->count = out->len = 0;
    while (out->count < VECTOR_LINES && take_line(v, &out->line[out->count])) {
        const struct vector_line *line = &out->line[out->count];
        if (line->text[0] == '\0') {
            if (out->count)
                return true;
            continue;
        }
        if (vector_is(line, "bytes"))
            out->len +=
                vector_hex(line->word[1], out->bytes + out->len, sizeof out->bytes - out->len);
        out->count++;
    }
    if (out->count == VECTOR_LINES)
        broken("too many lines in a record", v->name);
    return out->count > 0;
}

const struct vector_line *vector_find(const struct vector_record *r, const char *field)
{
    for (size_t i = 0; i < r->count; i++)
        if (vector_is(&r->line[i], field))
            return &r->line[i];
    return NULL;
}

bool vector_is(const struct vector_line *line, const char *field)
{
    return strcmp(line->word[0], field) == 0;
}

const char *vector_rest(const struct vector_line *line, size_t n)
{
    const char *p = line->text;
    for (; n; n--) {
        p = strchr(p, ' ');
        if (!p)
            broken("too few words", line->text);
        p++;
    }
    return p;
}

uint64_t vector_number(const char *word)
{
    char *end;
    uint64_t n = strtoull(word, &end, 0);
    if (*word == '\0' || *end)
        broken("not a number", word);
    return n;
}

static unsigned digit(const char *p)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = *p ? strchr(digits, *p) : NULL;
    if (!at)
        broken("not hexadecimal", p);
    return (unsigned)(at - digits);
}

size_t vector_hex(const char *word, uint8_t *out, size_t cap)
{
    size_t n = 0;
    if (strcmp(word, "-") == 0)
        return 0;
    for (; *word; word += 2) {
        if (n == cap)
            broken("too many bytes", word);
        out[n++] = (uint8_t)(digit(word) << 4 | digit(word + 1));
    }
    return n;
}
