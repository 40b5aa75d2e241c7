// The counter-based generator of brainsim: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011,
// doi:10.1145/2063384.2063405) and what is made of its words, in 32-bit integers only. Its twin, bit for bit, is
// brainsim/events/_random.py.
#ifndef BRAINSIM_RANDOM_H_
#define BRAINSIM_RANDOM_H_

#include <cstdint>
#include <cstring>

// Vector instructions where the machine has them; the integers are the same everywhere. Clones are chosen before the
// sanitizer of threads has begun, which it does not survive.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_THREAD__)
#define BRAINSIM_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define BRAINSIM_CLONES
#endif

namespace brainsim {

constexpr int kDraws = 64;  // words of one batch: sixteen calls of four words, call l giving words l, l + 16, ...

// Which stream of a seed: the fourth word of the counter.
enum Purpose : uint32_t { kBulk = 0, kRows = 1, kWeights = 2, kKeys = 3, kFine = 4 };

struct Seed {
  uint32_t a, b;
};

inline uint32_t mulhi(uint32_t x, uint32_t y) { return static_cast<uint32_t>((static_cast<uint64_t>(x) * y) >> 32); }

// The words of a batch.
void draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out);

// -ln U as a fixed-point number with 27 bits after the point, for a batch of words, where U = (2 (w mod 2^31) + 1) /
// 2^32.
void negative_logs(const uint32_t* words, const uint32_t* table, uint32_t* out);

// Standard normal numbers with 28 bits after the point: the quantile at U / 2, its sign the highest bit of the word.
void fixed_normals(const uint32_t* words, const uint32_t* table, int32_t* out);

constexpr int kLogBits = 8, kNormalBits = 5;  // pieces in an octave of the two tables
constexpr int64_t kLogTable = 3 << kLogBits, kNormalTable = 32 * (3 << kNormalBits);

}  // namespace brainsim

#endif  // BRAINSIM_RANDOM_H_
