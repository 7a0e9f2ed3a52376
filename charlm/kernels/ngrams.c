/* What the n-gram expert does for each symbol, as machine code: which n-grams end at it, and what may follow them.
 *
 * ngram_tables.py says what the tables hold, ngram.py has the equations; tests/kernels/ngrams_driver.c tests this.
 * K is the longest context, V the vocabulary, T steps, B texts, N places. A reading is K + 1 numbers: the row of the
 * k-gram that ends there for k = 1 … K, -1 where there is none, and how many symbols the text has so far.
 */

#include <stdint.h>

/* The n-grams of one order. Unsigned integers of 1, 2 or 4 bytes are told apart by their number of bytes. */
typedef struct {
    const uint32_t *first;      /* (contexts + 1), where those after each context stand */
    const void *symbols;        /* their last symbols, ascending after each context */
    const void *counts;
    const void *opening_counts; /* of those that begin as a text does, or NULL */
    int64_t symbol_bytes, count_bytes, opening_bytes;
    int64_t opening_row;        /* the first of them, */
    int64_t opening_context;    /* the first of their contexts, */
    int64_t opening_contexts;   /* and how many contexts they have */
    double discounts[4], opening_discounts[4]; /* of a count of 0, 1, 2, and 3 or more */
} Table;

static inline int64_t at(const void *numbers, int64_t bytes, int64_t i) {
    switch (bytes) {
    case 1: return ((const uint8_t *)numbers)[i];
    case 2: return ((const uint16_t *)numbers)[i];
    default: return ((const uint32_t *)numbers)[i];
    }
}

/* The row of the n-gram of a context and a symbol, or -1. */
static int64_t find(const Table *table, int64_t context, int64_t symbol) {
    if (context < 0) return -1;
    int64_t low = table->first[context], end = table->first[context + 1], high = end;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (at(table->symbols, table->symbol_bytes, middle) < symbol)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && at(table->symbols, table->symbol_bytes, low) == symbol ? low : -1;
}

/* Reads symbols, ids (T, B), from the readings before, (B, K + 1); writes readings (T, B, K + 1).
 * tables[k - 1] has the k-grams. The number of symbols is counted up to `most`. */
void charlm_ngrams_advance(int64_t T, int64_t B, int64_t K, int64_t most, const Table *tables, const int64_t *ids,
                           const int64_t *before, int64_t *readings) {
    for (int64_t t = 0; t < T; t++) {
        for (int64_t b = 0; b < B; b++) {
            const int64_t *last = t ? readings + ((t - 1) * B + b) * (K + 1) : before + b * (K + 1);
            int64_t *reading = readings + (t * B + b) * (K + 1), symbol = ids[t * B + b];
            if (K > 0) reading[0] = symbol;
            for (int64_t k = 2; k <= K; k++) reading[k - 1] = find(&tables[k - 1], last[k - 2], symbol);
            reading[K] = last[K] < most ? last[K] + 1 : most;
        }
    }
}

/* The n-grams that go on from one context: their rows, and the counts that they have there. */
typedef struct {
    int64_t begin, end; /* rows of the table */
    const void *counts; /* of row `begin` and the ones after it, from place `from` on */
    int64_t count_bytes, from;
    const double *discounts; /* of a count of 0, 1, 2, and 3 or more */
} Followers;

/* The followers of the last n - 1 symbols; `begins` says whether these are all of the text. */
static inline Followers followers(const Table *table, int64_t context, int begins) {
    int64_t begin = table->first[context], end = table->first[context + 1], opening = context - table->opening_context;
    if (begins && table->opening_counts && opening >= 0 && opening < table->opening_contexts)
        return (Followers){begin, end, table->opening_counts, table->opening_bytes, begin - table->opening_row,
                           table->opening_discounts};
    return (Followers){begin, end, table->counts, table->count_bytes, begin, table->discounts};
}

/* Writes the probability of every symbol after N readings, p (N, V): with h_n the last n - 1 symbols,
 *
 *   p(w) = Σ_n alpha_n(h_n w) Π_{m>n} gamma(h_m),   alpha(h w) = (a(h w) - D) / a(h ·),   gamma(h) = Σ_w D / a(h ·)
 *
 * over the n whose context is known; what lies below them all is `lowest`, (V,). K is at most MOST_CONTEXT. The
 * longest known context of each place goes to `lengths`, (N,). */
#define MOST_CONTEXT 255

void charlm_ngrams_distributions(int64_t N, int64_t K, int64_t V, const Table *tables, const float *lowest,
                                 const int64_t *readings, float *p, int64_t *lengths) {
    for (int64_t i = 0; i < N; i++, p += V, readings += K + 1) {
        double totals[MOST_CONTEXT + 2];   /* a(h_n ·) */
        float weights[MOST_CONTEXT + 2];   /* Π_{m>n} gamma(h_m) */
        float weight = 1.0f;
        int64_t known = 0;
        while (known < K && readings[known] >= 0) known++;
        lengths[i] = known;
        int begins = readings[K] == known;
        for (int64_t n = known + 1; n >= 2; n--) {
            Followers f = followers(&tables[n - 1], readings[n - 2], begins && n == known + 1);
            double total = 0, taken = 0;
            for (int64_t k = 0; k < f.end - f.begin; k++) {
                int64_t count = at(f.counts, f.count_bytes, f.from + k);
                total += (double)count;
                taken += f.discounts[count < 3 ? count : 3];
            }
            weights[n] = weight;
            totals[n] = total;
            if (total > 0) weight *= (float)(taken / total);
        }
        for (int64_t w = 0; w < V; w++) p[w] = weight * lowest[w];
        for (int64_t n = known + 1; n >= 2; n--) {
            const Table *table = &tables[n - 1];
            Followers f = followers(table, readings[n - 2], begins && n == known + 1);
            for (int64_t k = 0; k < f.end - f.begin; k++) {
                int64_t count = at(f.counts, f.count_bytes, f.from + k);
                float alpha = (float)(((double)count - f.discounts[count < 3 ? count : 3]) / totals[n]);
                p[at(table->symbols, table->symbol_bytes, f.begin + k)] += alpha * weights[n];
            }
        }
    }
}
