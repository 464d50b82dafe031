/* A backend of arbitor in C, without dependencies: five operations behind the line protocol of
 * docs/adding-a-backend.md.
 *
 *     cc -O2 -o ternary ternary.c -lm && arbitor verify --backend cmd:./ternary
 *
 * With -DBUG an accumulator fires only above its threshold, against ARB-FIRE-002: arbitor names the clause.
 * The program trusts what arbitor sends: dtypes, shapes and ranges of integers were checked before. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *CAPABILITIES =
    "{\"version\":1,\"name\":\"ternary.c\",\"devices\":[\"cpu\"],\"formats\":[\"codes\"],"
    "\"operations\":[\"pack\",\"unpack\",\"philox\",\"linear_forward\",\"ternary_update\"]}";

/* ---- JSON, as much of it as a request has ------------------------------------------------------- */

static const char *blanks(const char *p) { return p + strspn(p, " \t\r\n"); }

/* The character behind the value that begins at p. */
static const char *behind(const char *p) {
    int depth = 0;
    do {
        p = blanks(p);
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\') p++;
            p++;
        } else if (*p == '{' || *p == '[') {
            depth++, p++;
        } else if (*p == '}' || *p == ']') {
            depth--, p++;
        } else if (depth && (*p == ',' || *p == ':')) {
            p++;
        } else {
            p += strcspn(p, ",:]} \t\r\n");
        }
    } while (depth && *p);
    return p;
}

/* The value of a key of the object that begins at p, or NULL. */
static const char *member(const char *p, const char *key) {
    size_t length = strlen(key);
    for (p = blanks(p) + 1; *p;) {
        p = blanks(p);
        const char *name = p, *value = blanks(behind(p)) + 1; /* behind the colon */
        if (*name != '"') return NULL;
        if (!strncmp(name + 1, key, length) && name[1 + length] == '"') return blanks(value);
        p = blanks(behind(value));
        if (*p++ != ',') return NULL;
    }
    return NULL;
}

static const char *arguments; /* of the request at hand */
static long long number;      /* its id */

static int64_t integer(const char *name) { return strtoll(member(arguments, name), NULL, 10); }

static void fail(const char *kind, const char *format, ...) {
    va_list values;
    va_start(values, format);
    printf("{\"id\":%lld,\"error\":{\"kind\":\"%s\",\"message\":\"", number, kind);
    vprintf(format, values);
    printf("\"}}\n");
    va_end(values);
}

/* ---- arrays, whose elements travel in base64 ----------------------------------------------------- */

typedef struct {
    int64_t rows, columns; /* a vector is one row */
    void *data;
} Array;

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void *allocate(int64_t size) {
    void *found = calloc(size ? size : 1, 1);
    if (!found) fprintf(stderr, "no memory for %" PRId64 " bytes\n", size), exit(1);
    return found;
}

static Array array(const char *name) {
    const char *object = member(arguments, name), *shape = member(object, "shape"), *p;
    char *end;
    Array found = {1, strtoll(shape + 1, &end, 10), NULL};
    end = (char *)blanks(end);
    if (*end == ',') found.rows = found.columns, found.columns = strtoll(end + 1, NULL, 10);
    p = member(object, "data") + 1;
    size_t length = strcspn(p, "\""), written = 0;
    uint8_t *bytes = found.data = allocate(length);
    uint32_t word = 0;
    for (size_t i = 0; i < length && p[i] != '='; i++) {
        word = word << 6 | (uint32_t)(strchr(DIGITS, p[i]) - DIGITS);
        if (i % 4) bytes[written++] = (uint8_t)(word >> (6 - 2 * (i % 4)));
    }
    return found;
}

static void answer(void) { printf("{\"id\":%lld,\"results\":{", number); }

/* One result: `axes` extents, elements of `size` bytes; `more` if another one follows. */
static void give(const char *name, const char *dtype, int axes, Array found, int size, int more) {
    const uint8_t *bytes = found.data;
    int64_t length = found.rows * found.columns * size;
    printf("\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype);
    if (axes == 2) printf("%" PRId64 ",", found.rows);
    printf("%" PRId64 "],\"data\":\"", found.columns);
    for (int64_t i = 0; i < length; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16;
        if (i + 1 < length) word |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < length) word |= bytes[i + 2];
        putchar(DIGITS[word >> 18]), putchar(DIGITS[word >> 12 & 63]);
        putchar(i + 1 < length ? DIGITS[word >> 6 & 63] : '=');
        putchar(i + 2 < length ? DIGITS[word & 63] : '=');
    }
    printf(more ? "\"}," : "\"}}}\n");
}

/* ---- the operations (docs/SPEC.md) --------------------------------------------------------------- */

/* ARB-PACK-001: element i of a row in bits 2 * (i % 4) of byte i / 4. */
static int trit_at(const uint8_t *row, int64_t i) { return (row[i / 4] >> 2 * (i % 4) & 3) - 1; }

static void set_trit(uint8_t *row, int64_t i, int trit) {
    int shift = 2 * (i % 4);
    row[i / 4] = (uint8_t)((row[i / 4] & ~(3 << shift)) | (trit + 1) << shift);
}

static void pack(void) {
    Array trits = array("trits");
    Array codes = {trits.rows, (trits.columns + 3) / 4, NULL};
    codes.data = allocate(codes.rows * codes.columns);
    memset(codes.data, 0x55, codes.rows * codes.columns); /* ARB-PACK-002: padding is code 1 */
    for (int64_t r = 0; r < trits.rows; r++)
        for (int64_t c = 0; c < trits.columns; c++) {
            int trit = ((int8_t *)trits.data)[r * trits.columns + c];
            if (trit < -1 || trit > 1) { /* ARB-PACK-004 */
                fail("value", "trits[%" PRId64 ", %" PRId64 "] is %d, expected -1, 0 or 1", r, c, trit);
                goto done;
            }
            set_trit((uint8_t *)codes.data + r * codes.columns, c, trit);
        }
    answer();
    give("codes", "uint8", 2, codes, 1, 0);
done:
    free(trits.data), free(codes.data);
}

static void unpack(void) {
    Array codes = array("codes");
    Array trits = {codes.rows, integer("columns"), NULL};
    trits.data = allocate(trits.rows * trits.columns);
    for (int64_t r = 0; r < codes.rows; r++)
        for (int64_t i = 0; i < 4 * codes.columns; i++) {
            const uint8_t *row = (uint8_t *)codes.data + r * codes.columns;
            int trit = trit_at(row, i);
            if (trit > 1 || (i >= trits.columns && trit)) { /* ARB-PACK-003 */
                fail("value", "row %" PRId64 ", byte %" PRId64 " is %d: code 3, or padding not of code 1", r,
                     i / 4, row[i / 4]);
                goto done;
            }
            if (i < trits.columns) ((int8_t *)trits.data)[r * trits.columns + i] = (int8_t)trit;
        }
    answer();
    give("trits", "int8", 2, trits, 1, 0);
done:
    free(codes.data), free(trits.data);
}

/* ARB-RNG-001, ARB-RNG-002: word n of a stream. */
static uint32_t word_of(uint64_t n, uint64_t seed, uint32_t step, uint32_t stream) {
    uint32_t c[4] = {(uint32_t)(n >> 2), (uint32_t)(n >> 34), step, stream};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ key[0];
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ key[1];
        c[1] = (uint32_t)b, c[3] = (uint32_t)a;
        key[0] += 0x9E3779B9, key[1] += 0xBB67AE85;
    }
    return c[n & 3];
}

static uint64_t seed_of(void) { return strtoull(member(arguments, "seed"), NULL, 10); }

static void philox(void) {
    Array words = {1, integer("count"), NULL};
    words.data = allocate(8 * words.columns);
    for (int64_t i = 0; i < words.columns; i++)
        ((int64_t *)words.data)[i] = word_of((uint64_t)(integer("first") + i), seed_of(),
                                             (uint32_t)integer("step"), (uint32_t)integer("stream"));
    answer();
    give("words", "int64", 1, words, 8, 0);
    free(words.data);
}

static void linear_forward(void) {
    Array q = array("q_x"), e_x = array("e_x"), codes = array("codes"), e = array("e");
    int64_t base = integer("e_base"), group = integer("group_size");
    Array y = {q.rows, codes.rows, NULL};
    y.data = allocate(4 * y.rows * y.columns);
    for (int64_t t = 0; t < q.rows; t++)
        for (int64_t o = 0; o < codes.rows; o++) {
            int32_t z = 0;
            int64_t exponent = ((int8_t *)e_x.data)[t];
            for (int64_t i = 0; i < q.columns; i++) { /* ARB-LIN-001 */
                int shift = (int)(((int8_t *)e.data)[o * e.columns + i / group] - base);
                int trit = trit_at((uint8_t *)codes.data + o * codes.columns, i);
                z += ((int8_t *)q.data)[t * q.columns + i] * (trit * (1 << shift));
            }
            float scale = ldexpf(1.0f, (int)(exponent + base < 127 ? exponent + base : 127));
            float *to = (float *)y.data + t * y.columns + o;
            *to = (float)z * scale;                                  /* ARB-LIN-003 */
            if (exponent == 127) memcpy(to, &(uint32_t){0x7FC00000}, 4); /* ARB-LIN-004 */
        }
    answer();
    give("y", "float32", 2, y, 4, 0);
    free(q.data), free(e_x.data), free(codes.data), free(e.data), free(y.data);
}

static int64_t sign(int64_t x) { return (x > 0) - (x < 0); }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t clamp(int64_t x, int64_t limit) { return least(x < -limit ? -limit : x, limit); }

#ifdef BUG
#define LATE 1 /* fires above the threshold, and not at it */
#else
#define LATE 0
#endif

typedef enum { SCALED, SIGN, ADAPTIVE } Rule;

typedef struct { /* of a call of ternary_update */
    Rule rule;
    int64_t gain, vote_max, threshold, scale_gain, e_threshold, base, span;
    uint64_t seed;
    uint32_t step, stream;
} How;

typedef struct { /* value * 2^x */
    int64_t value, x;
} Scaled;

static uint32_t r16_of(const How *how, int purpose, int64_t n) {
    return word_of((uint64_t)n, how->seed, how->step, how->stream + (uint32_t)purpose) >> 16;
}

static int bit_length(int64_t x) {
    int found = 0;
    for (; x; x >>= 1) found++;
    return found;
}

/* The same number with a value of so many bits, low ones cut off; 0 stays 0. */
static Scaled to_bits(Scaled a, int bits) {
    int up = bits - bit_length(a.value);
    if (!a.value) return a;
    return (Scaled){up > 0 ? a.value << up : a.value >> -up, a.x - up};
}

/* ARB-MOM-002: of `count` gradients whose sizes add up to `size`. */
static Scaled mean_square(const int32_t *gradient, int64_t count, int64_t size, int64_t e_g) {
    int shift = bit_length(size) > 15 ? bit_length(size) - 15 : 0;
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t f = (llabs((int64_t)gradient[i]) + ((int64_t)1 << shift >> 1)) >> shift;
        sum += f * f;
    }
    Scaled found = to_bits((Scaled){sum, 2 * (shift + e_g)}, 31);
    found.value /= count;
    return to_bits(found, 21);
}

/* ARB-MOM-001, ARB-MOM-003: the moment behind an update of such a square. */
static int32_t next_moment(int32_t moment, Scaled square, int64_t done) {
    Scaled m = {moment & ((1 << 21) - 1), (moment >> 21) - 512};
    int64_t c = least(done + 1, 128);
    if (!m.value) m.x = square.x;
    if (!square.value) square.x = m.x;
    int64_t x = m.x > square.x ? m.x : square.x;
    int64_t sum = (m.value >> least(x - m.x, 31)) * (c - 1) + (square.value >> least(x - square.x, 31));
    Scaled mean = to_bits((Scaled){sum * 8 / c, x - 3}, 21);
    return mean.value && mean.x >= -512 ? (int32_t)((mean.x + 512) << 21 | mean.value) : 0;
}

/* ARB-VOTE-005: *factor and *shift of votes by that moment; of one of 0 there are none. */
static void share_of(int32_t moment, int64_t e_g, int64_t gain, int64_t *factor, int64_t *shift) {
    int64_t y = (moment >> 21) - 512 - 2 * e_g, p = y & 1, m = (int64_t)(moment & ((1 << 21) - 1)) << p;
    *factor = *shift = 0;
    if (!moment) return;
    int64_t u = (int64_t)sqrt(4503599627370496.0 / (double)m); /* 2^52; may be one off */
    while (u * u * m > (int64_t)1 << 52) u--;
    while ((u + 1) * (u + 1) * m <= (int64_t)1 << 52) u++;
    int cut = bit_length(4 * gain * u) > 31 ? bit_length(4 * gain * u) - 31 : 0;
    *factor = 4 * gain * u >> cut;
    *shift = least(26 + (y - p) / 2 - cut, 62);
    if (*shift < 0) *shift = 0;
}

/* ARB-VOTE-001 to -003 for one gradient, in quarters of a vote. */
static int64_t vote_of(const How *how, int64_t g, int64_t factor, int64_t shift, int64_t n) {
    if (how->rule == SIGN) return -4 * sign(g);
    int64_t k = ((llabs(g) * factor >> shift) + r16_of(how, 3, n)) >> 16;
    return -sign(g) * least(k, 4 * how->vote_max);
}

/* One group, elements first to last - 1 of a row whose element 0 has the index n: gradient, codes and t_accum
 * are the row's, e, e_accum and moment the group's, and counts are added to. */
static void update_group(const How *how, const int32_t *gradient, int64_t e_g, uint8_t *codes, int8_t *t_accum,
                         int8_t *e, int8_t *e_accum, int32_t *moment, int64_t first, int64_t last, int64_t n,
                         int64_t group, int64_t *counts) {
    int64_t size = 0, h = 0, factor = 4 * how->gain, shift;
    for (int64_t i = first; i < last; i++) {
        size += llabs((int64_t)gradient[i]);
        h -= (int64_t)gradient[i] * trit_at(codes, i);
    }
    shift = bit_length(size / (last - first));
    if (how->rule == ADAPTIVE) {
        *moment = next_moment(*moment, mean_square(gradient + first, last - first, size, e_g), how->step);
        share_of(*moment, e_g, how->gain, &factor, &shift);
    }
    for (int64_t i = first; i < last; i++) {
        int64_t vote = vote_of(how, gradient[i], factor, shift, n + i), a = t_accum[i] + vote;
        int trit = trit_at(codes, i), moved = (int)clamp(trit + sign(a), 1);
        counts[0] += vote != 0;
        if (llabs(a) < 4 * how->threshold + LATE) { /* ARB-FIRE-002 */
            t_accum[i] = (int8_t)a;
            continue;
        }
        counts[1]++, counts[2] += moved != trit;
        set_trit(codes, i, moved);
        t_accum[i] = (int8_t)(moved != trit ? 0 : sign(a) * (4 * how->threshold - 1));
    }
    int votes = llabs(h) * how->scale_gain > (int64_t)r16_of(how, 4, group) * size; /* ARB-SCALE-001 */
    int64_t a = clamp(*e_accum + (votes ? sign(h) : 0), 127);
    counts[3] += votes && h;
    *e_accum = (int8_t)a;
    if (llabs(a) < how->e_threshold) return; /* ARB-SCALE-002 */
    int64_t moved = least(*e + sign(a), how->base + how->span);
    if (moved < how->base) moved = how->base;
    counts[4] += moved != *e;
    *e = (int8_t)moved, *e_accum = 0;
}

static Rule rule_of(const char *name) {
    return strncmp(name, "\"sign\"", 6) == 0 ? SIGN : strncmp(name, "\"scaled\"", 8) == 0 ? SCALED : ADAPTIVE;
}

static void ternary_update(void) {
    Array g = array("gradient"), e_g = array("e_g"), codes = array("codes"), t = array("t_accum");
    Array e = array("e"), e_accum = array("e_accum"), moment = array("moment"), counts = {1, 5, allocate(40)};
    int64_t width = integer("group_size");
    How how = {rule_of(member(arguments, "rule")),
               integer("gain"), integer("vote_max"), integer("accum_threshold"), integer("scale_gain"),
               integer("e_accum_threshold"), integer("e_base"), integer("e_span"), seed_of(),
               (uint32_t)integer("step"), (uint32_t)(16 * integer("tensor_id"))};
    for (int64_t o = 0; o < g.rows; o++)
        for (int64_t group = 0; group < e.columns; group++) {
            int64_t place = o * e.columns + group;
            update_group(&how, (int32_t *)g.data + o * g.columns, ((int8_t *)e_g.data)[o],
                         (uint8_t *)codes.data + o * codes.columns, (int8_t *)t.data + o * t.columns,
                         (int8_t *)e.data + place, (int8_t *)e_accum.data + place,
                         (int32_t *)moment.data + place, group * width,
                         least((group + 1) * width, g.columns), o * g.columns, place, counts.data);
        }
    answer(); /* what is written in place comes back too */
    give("codes", "uint8", 2, codes, 1, 1), give("t_accum", "int8", 2, t, 1, 1);
    give("e", "int8", 2, e, 1, 1), give("e_accum", "int8", 2, e_accum, 1, 1);
    give("moment", "int32", 2, moment, 4, 1), give("counts", "int64", 1, counts, 8, 0);
    free(g.data), free(e_g.data), free(codes.data), free(t.data);
    free(e.data), free(e_accum.data), free(moment.data), free(counts.data);
}

/* ---- one request a line, until stdin ends -------------------------------------------------------- */

int main(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } OPERATIONS[] = {{"pack", pack}, {"unpack", unpack}, {"philox", philox},
                      {"linear_forward", linear_forward}, {"ternary_update", ternary_update}};
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        const char *id = member(line, "id"), *operation = member(line, "operation");
        void (*run)(void) = NULL;
        number = id ? strtoll(id, NULL, 10) : -1;
        arguments = member(line, "arguments");
        for (size_t i = 0; operation && i < sizeof OPERATIONS / sizeof *OPERATIONS; i++) {
            size_t length = strlen(OPERATIONS[i].name);
            if (!strncmp(operation + 1, OPERATIONS[i].name, length) && operation[1 + length] == '"')
                run = OPERATIONS[i].run;
        }
        if (member(line, "hello"))
            printf("{\"id\":%lld,\"protocol\":1,\"capabilities\":%s}\n", number, CAPABILITIES);
        else if (run && arguments)
            run();
        else
            fail("not implemented", "this program has no such operation");
        fflush(stdout);
    }
    free(line);
    return 0;
}
