/* Drives ngrams.c over random tables of n-grams and compares it with what the tables say when they are read slowly.
 *
 *     cc [sanitizers] ngrams_driver.c -lm && ./a.out [CASES]
 *
 * The tables are any that the checks in ngram_tables.py let pass: each context has any symbols after it, in order,
 * with any counts. Every array has exactly its size, so a sanitizer sees each number that lies outside.
 *
 * Exit status 0: all as expected; 1: a message says what is not.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../charlm/kernels/ngrams.c"

#define MOST_ORDER 7

static uint64_t seed = 1;

static int64_t draw(int64_t below) { /* Knuth's linear congruential generator */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((seed >> 33) % (uint64_t)below);
}

static double share(void) { return ((double)draw(1 << 30) + 1) / (1 << 30); }

static void *array(int64_t bytes) { return malloc(bytes > 0 ? (size_t)bytes : 1); }

/* n unsigned integers of some bytes. */
static void *pack(const int64_t *numbers, int64_t n, int64_t bytes) {
    void *result = array(n * bytes);
    for (int64_t i = 0; i < n; i++) {
        if (bytes == 1) ((uint8_t *)result)[i] = (uint8_t)numbers[i];
        if (bytes == 2) ((uint16_t *)result)[i] = (uint16_t)numbers[i];
        if (bytes == 4) ((uint32_t *)result)[i] = (uint32_t)numbers[i];
    }
    return result;
}

static int64_t *draw_counts(int64_t n, int64_t bytes) {
    int64_t most = draw(3) ? 4 : bytes == 1 ? 255 : bytes == 2 ? 65535 : 4294967295, *counts = array(n * 8);
    for (int64_t i = 0; i < n; i++) counts[i] = 1 + draw(most);
    return counts;
}

static void draw_discounts(double *discounts) {
    discounts[0] = 0;
    for (int i = 1; i < 4; i++) discounts[i] = i * share();
}

typedef struct {
    int64_t n_contexts, n, *symbols, *counts, *opening_counts, openings;
    Table table;
} Drawn;

static Drawn draw_table(int64_t n_contexts, int64_t V, int has_opening) {
    static const int64_t sizes[] = {1, 2, 4};
    Drawn d = {.n_contexts = n_contexts};
    uint32_t *first = array((n_contexts + 1) * 4);
    d.symbols = array(n_contexts * V * 8);
    for (int64_t c = 0; c < n_contexts; c++) {
        first[c] = (uint32_t)d.n;
        int64_t every = 1 + draw(4);
        for (int64_t w = 0; w < V; w++)
            if (draw(every + 1) == 0) d.symbols[d.n++] = w;
    }
    first[n_contexts] = (uint32_t)d.n;
    int64_t bytes = sizes[draw(3)];
    d.counts = draw_counts(d.n, bytes);
    d.table = (Table){.first = first, .symbol_bytes = sizes[draw(3)], .count_bytes = bytes};
    d.table.symbols = pack(d.symbols, d.n, d.table.symbol_bytes);
    d.table.counts = pack(d.counts, d.n, bytes);
    draw_discounts(d.table.discounts);
    if (has_opening) {
        int64_t from = draw(n_contexts), contexts = 1 + draw(n_contexts - from);
        d.openings = first[from + contexts] - first[from];
        d.table.opening_bytes = sizes[draw(3)];
        d.opening_counts = draw_counts(d.openings, d.table.opening_bytes);
        d.table.opening_counts = pack(d.opening_counts, d.openings, d.table.opening_bytes);
        d.table.opening_context = from;
        d.table.opening_contexts = contexts;
        d.table.opening_row = first[from];
        draw_discounts(d.table.opening_discounts);
    }
    return d;
}

static void forget(Drawn *d) {
    free((void *)d->table.first), free((void *)d->table.symbols), free((void *)d->table.counts);
    free((void *)d->table.opening_counts), free(d->symbols), free(d->counts), free(d->opening_counts);
}

/* The row of an n-gram, by looking at every one. */
static int64_t look_for(const Drawn *d, int64_t context, int64_t symbol) {
    for (int64_t row = context < 0 ? d->n : d->table.first[context]; context >= 0 && row < d->table.first[context + 1]; row++)
        if (d->symbols[row] == symbol) return row;
    return -1;
}

/* p(w | h) = alpha + gamma p(w | h'), from the shortest context to the longest. */
static double expect(const Drawn *orders, const int64_t *reading, int64_t K, int64_t w, double p) {
    int64_t known = 0;
    while (known < K && reading[known] >= 0) known++;
    for (int64_t n = 2; n <= known + 1; n++) {
        const Drawn *d = &orders[n - 1];
        int64_t context = reading[n - 2], from = d->table.opening_context;
        int opens = n == known + 1 && reading[K] == known && d->opening_counts && context >= from
                    && context < from + d->table.opening_contexts;
        const double *discounts = opens ? d->table.opening_discounts : d->table.discounts;
        double total = 0, taken = 0, own = 0;
        for (int64_t row = d->table.first[context]; row < d->table.first[context + 1]; row++) {
            int64_t count = opens ? d->opening_counts[row - d->table.opening_row] : d->counts[row];
            double D = discounts[count < 3 ? count : 3];
            total += (double)count, taken += D;
            if (d->symbols[row] == w) own = (double)count - D;
        }
        if (total > 0) p = own / total + taken / total * p;
    }
    return p;
}

static int fail(const char *what, int64_t number, double found, double expected) {
    fprintf(stderr, "case %lld: %s is %g, not %g\n", (long long)number, what, found, expected);
    return 1;
}

static int try_case(int64_t number) {
    int64_t V = 1 + draw(12), K = draw(MOST_ORDER), T = draw(5), B = draw(4), most = 3 + draw(20), n_contexts = 1;
    Drawn orders[MOST_ORDER];
    Table *tables = array((K + 1) * (int64_t)sizeof(Table));
    for (int64_t n = 0; n <= K; n++) {
        orders[n] = draw_table(n_contexts, V, n > 0 && n < K && draw(2));
        if (orders[n].n == 0 || orders[n].n > 2000) K = n; /* nothing longer, or enough */
        tables[n] = orders[n].table;
        n_contexts = n == 0 ? V : orders[n].n;
    }
    int64_t width = K + 1, *ids = array(T * B * 8), *before = array(B * width * 8), *readings = array(T * B * width * 8);
    for (int64_t i = 0; i < T * B; i++) ids[i] = draw(V);
    for (int64_t b = 0; b < B; b++) {
        before[b * width + K] = draw(most + 1);
        for (int64_t k = 0; k < K; k++) {
            int64_t rows = k ? orders[k].n : V;
            before[b * width + k] = rows && draw(3) ? draw(rows) : -1;
        }
    }
    charlm_ngrams_advance(T, B, K, most, tables, ids, before, readings);
    int status = 0;
    for (int64_t t = 0; !status && t < T; t++) {
        for (int64_t b = 0; !status && b < B; b++) {
            const int64_t *last = t ? readings + ((t - 1) * B + b) * width : before + b * width;
            const int64_t *reading = readings + (t * B + b) * width;
            int64_t read = last[K] < most ? last[K] + 1 : most;
            if (reading[K] != read) status = fail("the number of symbols", number, (double)reading[K], (double)read);
            for (int64_t k = 1; k <= K; k++) {
                int64_t row = k == 1 ? ids[t * B + b] : look_for(&orders[k - 1], last[k - 2], ids[t * B + b]);
                if (reading[k - 1] != row) status = fail("a row", number, (double)reading[k - 1], (double)row);
            }
        }
    }
    float *lowest = array(V * 4), *p = array(T * B * V * 4);
    int64_t *lengths = array(T * B * 8);
    for (int64_t w = 0; w < V; w++) lowest[w] = (float)(share() / (double)V);
    charlm_ngrams_distributions(T * B, K, V, tables, lowest, readings, p, lengths);
    for (int64_t i = 0; !status && i < T * B; i++) {
        int64_t known = 0;
        while (known < K && readings[i * width + known] >= 0) known++;
        if (lengths[i] != known) status = fail("a length", number, (double)lengths[i], (double)known);
        for (int64_t w = 0; !status && w < V; w++) {
            double expected = expect(orders, readings + i * width, K, w, (double)lowest[w]);
            if (!(fabs(p[i * V + w] - expected) <= 1e-6 * expected + 1e-12))
                status = fail("a probability", number, p[i * V + w], expected);
        }
    }
    for (int64_t n = 0; n <= K; n++) forget(&orders[n]);
    free(tables), free(ids), free(before), free(readings), free(lowest), free(p), free(lengths);
    return status;
}

int main(int arguments, char **words) {
    int64_t cases = arguments > 1 ? atoll(words[1]) : 1000;
    for (int64_t number = 0; number < cases; number++)
        if (try_case(number)) return 1;
    return 0;
}
