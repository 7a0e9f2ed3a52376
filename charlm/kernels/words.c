/* Which contexts the word expert sees at each symbol, as machine code; experts/words.py has the equations.
 *
 * A state is four numbers: the hash of the run of letters, or of what stands between words, that is being read;
 * whether it is one of letters; the hash of the last whole word, and of the one before it.
 */

#include <stdint.h>

#define LEVELS 3
#define LETTER (UINT32_C(1) << 31)                /* of a class; the rest tells symbols apart */
#define RUN UINT64_C(0x9E3779B97F4A7C15)          /* odd numbers whose bits look random */
#define KIND UINT64_C(0xD1B54A32D192ED03)
#define NEXT UINT64_C(0xBF58476D1CE4E5B9)

/* Reads a symbol of this class, and writes the keys of its contexts, the shortest first. */
static inline void read_symbol(uint32_t class, uint64_t state[4], uint32_t keys[LEVELS]) {
    uint64_t letter = (class & LETTER) != 0, hash = 0;
    if (letter == state[1]) {
        hash = state[0];
    } else if (!letter) {
        state[3] = state[2];
        state[2] = state[0];
    }
    state[0] = hash * RUN + (class & ~LETTER) + 1;
    state[1] = letter;
    uint64_t key = (state[0] + letter * KIND) * NEXT;
    keys[0] = (uint32_t)(key >> 32);
    for (int k = 1; k < LEVELS; k++) {
        key = ((key ^ key >> 29) + state[k + 1]) * NEXT;
        keys[k] = (uint32_t)(key >> 32);
    }
}

/* Writes the keys after each of n symbols of one text, (LEVELS, n), and goes on from its state, (4,). */
void charlm_words_keys(int64_t n, const uint32_t *classes, const int64_t *ids, uint64_t *state, uint32_t *keys) {
    for (int64_t t = 0; t < n; t++) {
        uint32_t found[LEVELS];
        read_symbol(classes[ids[t]], state, found);
        for (int k = 0; k < LEVELS; k++) keys[k * n + t] = found[k];
    }
}

static int64_t place_of(uint32_t key, const uint32_t *keys, int64_t n) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && keys[low] == key ? low : -1;
}

/* Reads symbols, ids (T, B), and goes on from the states, (B, 4); writes readings, (T, B, LEVELS + 1): which of the
 * known contexts, whose keys ascend, each is, -1 where it is none; and a zero. */
void charlm_words_advance(int64_t T, int64_t B, const uint32_t *classes, const int64_t *ids, uint64_t *states,
                          const uint32_t *const *known, const int64_t *sizes, int64_t *readings) {
    for (int64_t i = 0; i < T * B; i++, readings += LEVELS + 1) {
        uint32_t keys[LEVELS];
        read_symbol(classes[ids[i]], states + i % B * 4, keys);
        for (int k = 0; k < LEVELS; k++) readings[k] = place_of(keys[k], known[k], sizes[k]);
        readings[LEVELS] = 0;
    }
}
