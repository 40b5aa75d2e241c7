// Events between the scatter that sends them and the pass over the units that get them.
//
// Where a network is larger than the cache, each event added where it arrives misses it. So a scatter of short rows may
// only file what it sends by blocks of post units: threads share its rows. What was filed for a block is added up right
// before its units are updated, while they are in the cache: threads share the blocks. Each sum is in the order of the
// rows, as if nothing had been filed.
//
// A row whose targets ascend is a stretch for each block. Where the graph says how long they are, stretches are copied
// at one go each, instead of targets.
#ifndef BRAINSIM_FILED_H_
#define BRAINSIM_FILED_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "brainsim/scatter.h"

namespace brainsim {

#ifndef BRAINSIM_FILED_ROOM  // in all lists of a scatter, in post units; ops/tests/driver.cc takes less
#define BRAINSIM_FILED_ROOM 4
#endif

constexpr int64_t kMostBlocks = 128;

// Log2 of the post units of a block: as the graph has it, if its blocks are enough for so many threads.
inline int filed_bits(int64_t n_post, int64_t threads) {
  int bits = block_bits(n_post);
  while (bits > 12 && n_post >> bits < 3 * threads && n_post >> (bits - 1) <= kMostBlocks) --bits;
  return bits;
}

// What one scatter without delay has filed: a list for every piece of its rows and block of the post units.
class Filed {
 public:
  // Files what `rows` send, of about `length` synapses each, if that is worth it and there is room; else nothing is
  // pending. It is not for long rows, which threads share better target by target, nor where nearly every post unit
  // gets something. `one`: weights are one number.
  template <typename Pool, typename T>
  bool file(Pool& pool, const Scatter<T>& s, const std::vector<int32_t>& rows, int64_t length, bool one) {
    const int64_t n_post = s.graph.n_post, work = rows.size() * length, threads = pool.num_threads();
    const int64_t blocks = n_post >> filed_bits(n_post, threads);
    if (threads < 2 || n_post < kFewestUnits || blocks < threads || blocks > kMostBlocks || full_) return false;
    if (length > kLongest || work < kFewestEvents || work >= n_post) return false;
    return file_all(pool, s, rows, one);
  }

  // As `file`, worth it or not.
  template <typename Pool, typename T>
  bool file_all(Pool& pool, const Scatter<T>& s, const std::vector<int32_t>& rows, bool one) {
    same_ = one && s.value == nullptr;
    amount_ = same_ ? s.weight[0] : T(0);
    width_ = s.graph.width;
    pieces_ = std::min<int64_t>(pool.num_threads(), 64);
    bits_ = filed_bits(s.graph.n_post, pool.num_threads());
    blocks_ = (s.graph.n_post + (int64_t{1} << bits_) - 1) >> bits_;
    // odd in lines, so that the ends of the lists do not share few sets of the cache
    room_ = ((BRAINSIM_FILED_ROOM * s.graph.n_post / (pieces_ * blocks_) + kLongest) / kLine | 1) * kLine;
    targets_.reserve(pieces_ * blocks_ * room_ * width_);
    amounts_.reserve(same_ ? 0 : pieces_ * blocks_ * room_ * sizeof(T));
    counts_.resize(pieces_ * (blocks_ + kApart));
    std::vector<char> fits(pieces_);
    const auto n = static_cast<int64_t>(rows.size());
    parallel_for(pool, pieces_, [&](int64_t piece) {
      const int32_t *first = rows.data() + n * piece / pieces_, *last = rows.data() + n * (piece + 1) / pieces_;
      fits[piece] = s.graph.with_targets([&](auto targets) {
        if (same_) return file_rows<true, true>(s, targets, piece, first, last);
        return one ? file_rows<false, true>(s, targets, piece, first, last)
                   : file_rows<false, false>(s, targets, piece, first, last);
      });
    });
    pending_ = std::all_of(fits.begin(), fits.end(), [](char fit) { return fit; });
    full_ = !pending_;
    return pending_;
  }

  bool pending() const { return pending_; }
  void done() { pending_ = false; }
  int bits() const { return bits_; }  // of a post unit within its block
  int64_t blocks() const { return blocks_; }

  // Adds up what is pending for a block; `out`: of post unit 0, of `n_post`.
  template <typename T>
  void deliver(T* out, int64_t n_post, int64_t block) const {
    Graph graph{};
    graph.width = width_;
    const int64_t first = block << bits_, size = std::min(int64_t{1} << bits_, n_post - first);
    for (int64_t piece = 0; piece < pieces_; ++piece) {
      const int64_t list = piece * blocks_ + block, n = counts_[piece * (blocks_ + kApart) + block];
      graph.indices = targets_.at<char>(list * room_ * width_);
      graph.with_targets([&](auto targets) {
        if (same_) return add<true>(out + first, size, targets, static_cast<const T*>(nullptr), n);
        add<false>(out + first, size, targets, amounts_.at<T>(list * room_), n);
      });
    }
  }

 private:
  // Memory taken as it is written to, and kept.
  class Memory {
   public:
    void reserve(int64_t bytes) {
      if (bytes <= bytes_) return;
      at_.reset(new char[bytes]);
      bytes_ = bytes;
    }
    template <typename T>
    T* at(int64_t n) const {
      return reinterpret_cast<T*>(at_.get()) + n;
    }

   private:
    std::unique_ptr<char[]> at_;
    int64_t bytes_ = 0;
  };

  static constexpr int64_t kFewestUnits = 1 << 15, kFewestEvents = 1 << 12, kLongest = 255;
  static constexpr int64_t kAtOnce = 16;      // synapses that are copied at one go
  static constexpr uint8_t kUncounted = 255;  // instead of the first stretch of a row of which one is too long
  static constexpr int64_t kApart = 8;        // numbers in a line of the cache, which no two threads write
  static constexpr int64_t kDistance = 6;     // rows between asking for one and filing it

  Memory targets_, amounts_;  // the lists; amounts where not all are the same
  int64_t pieces_ = 0, blocks_ = 0, room_ = 0, width_ = 0;
  int bits_ = 0;
  bool same_ = false;
  double amount_ = 0;
  std::vector<int64_t> counts_;          // of the lists
  bool pending_ = false, full_ = false;  // not tried again once it was full

  // Adds n amounts to a block of `size` units.
  template <bool kSame, typename T, typename Targets>
  void add(T* to, int64_t size, Targets targets, const T* amounts, int64_t n) const {
    const uint32_t low = (1u << bits_) - 1;
    const T same = static_cast<T>(amount_);
    auto place = [&](int64_t k) {  // in the block: of the bytes read, those of the target are enough
      uint32_t bytes;
      std::memcpy(&bytes, targets.bytes + Targets::kWidth * k, sizeof(bytes));
      return bytes & low;
    };
    int64_t k = 0;
    if (size == low + 1) {
      for (; k + 8 <= n; k += 8) {  // fewer questions for whether that was all
        for (int q = 0; q < 8; ++q) to[place(k + q)] += kSame ? same : amounts[k + q];
      }
    }
    for (; k < n; ++k) {
      if (const uint32_t at = place(k); at < size) to[at] += kSame ? same : amounts[k];
    }
  }

  template <bool kSame, bool kOne, typename T, typename Targets>
  bool file_rows(const Scatter<T>& s, Targets targets, int64_t piece, const int32_t* row, const int32_t* last_row) {
    constexpr int64_t kWidth = Targets::kWidth;
    Graph graph = s.graph;  // copies, which no entry that is written can change
    if (bits_ != block_bits(graph.n_post)) graph.stretches = nullptr;
    const T* const weight = kOne ? nullptr : s.weight;
    const int bits = bits_;
    const int64_t blocks = blocks_, room = room_;
    int64_t* const counts = counts_.data() + piece * (blocks + kApart);
    char* const to = targets_.at<char>(piece * blocks * room * kWidth);
    T* const amounts = kSame ? nullptr : amounts_.at<T>(piece * blocks * room);
    std::fill(counts, counts + blocks, 0);
    if (graph.indptr != nullptr) {
      for (const int32_t* x = row; x < last_row; ++x) __builtin_prefetch(graph.indptr + *x);
    }
    for (int64_t left = 0; row < last_row; ++row) {  // room that every list has
      if (last_row - row > kDistance) {
        const int32_t next = row[kDistance];
        const int64_t ahead = graph.begin(next);
        graph.prefetch(ahead, std::min(graph.end(next), ahead + kLongest), weight);
        if (graph.stretches != nullptr) {
          prefetch_lines(graph.stretches + next * blocks, graph.stretches + (next + 1) * blocks);
        }
      }
      const int64_t first = graph.begin(*row), last = graph.end(*row);
      if (last - first > left) {
        left = room - *std::max_element(counts, counts + blocks) - kAtOnce;
        if (last - first > left) return false;
      }
      if (first >= last) continue;
      left -= last - first;
      const T value = s.value == nullptr ? T(1) : s.value[*row];
      const T amount = kOne ? value * s.weight[0] : value;
      const uint8_t* const stretch = graph.stretches == nullptr ? nullptr : graph.stretches + *row * blocks;
      if (stretch != nullptr && *stretch < kUncounted && last + kAtOnce <= graph.n_syn) {
        int64_t j = first;
        for (int64_t b = 0; b < blocks; ++b) {
          int64_t n = stretch[b], k = 0;
          if (j + n > last) n = std::max<int64_t>(last - j, 0);  // nobody has looked at these numbers
          const int64_t at = b * room + counts[b];
          do {  // at once more than there are: what is too much is overwritten by the next
            std::memcpy(to + (at + k) * kWidth, targets.bytes + (j + k) * kWidth, kAtOnce * kWidth);
            for (int q = 0; !kSame && q < kAtOnce; ++q) {
              amounts[at + k + q] = kOne ? amount : amount * weight[j + k + q];
            }
          } while ((k += kAtOnce) < n);
          counts[b] += n;
          j += n;
        }
        continue;
      }
      for (int64_t j = first; j < last; ++j) {
        const uint32_t post = targets[j];
        if (post >= graph.n_post) continue;
        const int64_t at = (post >> bits) * room + counts[post >> bits]++;
        std::memcpy(to + at * kWidth, targets.bytes + j * kWidth, kWidth);
        if (!kSame) amounts[at] = kOne ? amount : amount * weight[j];
      }
    }
    return true;
  }
};

}  // namespace brainsim

#endif  // BRAINSIM_FILED_H_
