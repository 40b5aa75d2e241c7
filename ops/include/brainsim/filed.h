// Events between the scatter that sends them and the pass over the units that get them.
//
// Where a network is larger than the cache, each event added where it arrives misses it. So a scatter of short rows may
// only file what it sends by blocks of post units: threads share its rows. What was filed for a block is added up right
// before its units are updated, while they are in the cache: threads share the blocks. Each sum is in the order of the
// rows, as if nothing had been filed.
#ifndef BRAINSIM_FILED_H_
#define BRAINSIM_FILED_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "brainsim/scatter.h"

namespace brainsim {

#ifndef BRAINSIM_FILED_BYTES  // of all lists of a scatter; ops/tests/driver.cc takes less
#define BRAINSIM_FILED_BYTES (1 << 24)
#endif

// Post units of a block, a power of two: so many blocks that each fits the cache, so few that the end of every list
// does.
inline int block_bits(int64_t n_post) {
  int bits = 13;
  while (bits < 16 && n_post >> bits > 128) ++bits;
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
    const int64_t blocks = n_post >> block_bits(n_post);
    if (threads < 2 || n_post < kFewestUnits || blocks < threads || blocks > kMostBlocks || full_) return false;
    if (length >= kLongest || work < kFewestEvents || work >= n_post) return false;
    return file_all(pool, s, rows, one);
  }

  // As `file`, worth it or not.
  template <typename Pool, typename T>
  bool file_all(Pool& pool, const Scatter<T>& s, const std::vector<int32_t>& rows, bool one) {
    const bool same = one && s.value == nullptr;
    pieces_ = std::min<int64_t>(pool.num_threads(), 64);
    bits_ = block_bits(s.graph.n_post);
    blocks_ = (s.graph.n_post + (int64_t{1} << bits_) - 1) >> bits_;
    entry_ = same ? sizeof(uint16_t) : sizeof(Parcel<T>);
    amount_ = same ? s.weight[0] : T(0);
    // an odd number of lines, so that the ends of the lists do not share few sets of the cache
    stride_ = ((kBytes / (pieces_ * blocks_) / 64 - 1) | 1) * 64;
    if (!memory_) memory_.reset(new char[kBytes]);  // taken as it is written to
    ends_.resize(pieces_ * (blocks_ + kApart));
    std::vector<char> fits(pieces_);
    const auto n = static_cast<int64_t>(rows.size());
    parallel_for(pool, pieces_, [&](int64_t piece) {
      const int32_t *first = rows.data() + n * piece / pieces_, *last = rows.data() + n * (piece + 1) / pieces_;
      fits[piece] = s.graph.with_targets([&](auto targets) {
        constexpr int kWidth = decltype(targets)::kWidth;
        if (same) return file_rows<true, uint16_t, kWidth>(s, piece, first, last);
        return one ? file_rows<true, Parcel<T>, kWidth>(s, piece, first, last)
                   : file_rows<false, Parcel<T>, kWidth>(s, piece, first, last);
      });
    });
    pending_ = std::all_of(fits.begin(), fits.end(), [](char fit) { return fit; });
    full_ = !pending_;
    return pending_;
  }

  bool pending() const { return pending_; }
  void done() { pending_ = false; }
  int64_t blocks() const { return blocks_; }

  // Adds up what is pending for a block; `out`: of post unit 0.
  template <typename T>
  void deliver(T* out, int64_t block) const {
    T* const to = out + (block << bits_ & ~kLow);
    const T same = static_cast<T>(amount_);
    for (int64_t piece = 0; piece < pieces_; ++piece) {
      const char *first = list(piece, block), *last = ends_[piece * (blocks_ + kApart) + block];
      if (entry_ == sizeof(uint16_t)) {
        for_each<uint16_t>(first, last, [=](uint16_t at) { to[at] += same; });
      } else {
        for_each<Parcel<T>>(first, last, [=](const Parcel<T>& parcel) { to[parcel.at] += parcel.amount; });
      }
    }
  }

 private:
  template <typename T>
  struct Parcel {  // where all have one amount, only the place is filed
    T amount;
    uint16_t at;  // the low bits of the post unit; the others are those of its block
  };
  static constexpr int64_t kLow = 0xffff;  // bits of a post unit that are filed

  static constexpr int64_t kFewestUnits = 1 << 15, kFewestEvents = 1 << 12, kLongest = 256, kMostBlocks = 128;
  static constexpr int64_t kBytes = BRAINSIM_FILED_BYTES;
  static constexpr int64_t kApart = 8;     // pointers in a line of the cache, which no two threads write
  static constexpr int64_t kDistance = 6;  // rows between asking for one and filing it

  std::unique_ptr<char[]> memory_;
  int64_t pieces_ = 0, blocks_ = 0, entry_ = 0, stride_ = 0;
  int bits_ = 0;
  double amount_ = 0;
  std::vector<char*> ends_;              // of the lists
  bool pending_ = false, full_ = false;  // not tried again once it was full

  char* list(int64_t piece, int64_t block) const { return memory_.get() + (piece * blocks_ + block) * stride_; }

  template <typename Entry, typename F>
  static void for_each(const char* first, const char* last, F&& f) {
    const auto *at = reinterpret_cast<const Entry*>(first), *end = reinterpret_cast<const Entry*>(last);
    for (; end - at >= 8; at += 8) {  // fewer questions for whether that was all
      for (int q = 0; q < 8; ++q) f(at[q]);
    }
    for (; at < end; ++at) f(*at);
  }

  template <bool kOne, typename Entry, int kWidth, typename T>
  bool file_rows(const Scatter<T>& s, int64_t piece, const int32_t* row, const int32_t* last_row) {
    const Graph graph = s.graph;
    const auto targets = graph.targets<kWidth>();
    const T* const weight = kOne ? nullptr : s.weight;
    const int bits = bits_;
    char** const ends = ends_.data() + piece * (blocks_ + kApart);
    for (int64_t b = 0; b < blocks_; ++b) ends[b] = list(piece, b);
    if (graph.indptr != nullptr) {
      for (const int32_t* x = row; x < last_row; ++x) __builtin_prefetch(graph.indptr + *x);
    }
    auto left = [&] {  // room that every list has
      int64_t least = stride_;
      for (int64_t b = 0; b < blocks_; ++b) least = std::min<int64_t>(least, list(piece, b + 1) - ends[b]);
      return least / static_cast<int64_t>(sizeof(Entry));
    };
    for (int64_t room = 0; row < last_row; ++row) {
      const int64_t first = graph.begin(*row), last = graph.end(*row);
      if (last - first > room && last - first > (room = left())) return false;
      room -= std::max<int64_t>(last - first, 0);
      if (last_row - row > kDistance) {
        const int64_t ahead = graph.begin(row[kDistance]);
        const int64_t stop = std::min(graph.end(row[kDistance]), ahead + kLongest);
        for (int64_t j = ahead; j < stop; j += kLine) graph.prefetch(j, weight);
      }
      const T value = s.value == nullptr ? T(1) : s.value[*row];
      const T amount = kOne ? value * s.weight[0] : value;
      auto file_one = [&](int64_t j, uint32_t post) {
        char*& end = ends[post >> bits];
        auto* const entry = reinterpret_cast<Entry*>(end);
        if constexpr (std::is_same_v<Entry, uint16_t>) {
          *entry = static_cast<uint16_t>(post);
        } else {
          *entry = {kOne ? amount : amount * weight[j], static_cast<uint16_t>(post)};
        }
        end += sizeof(Entry);
      };
      int64_t j = first;
      for (; j + 4 <= last && four_within(targets, j, 0, graph.n_post); j += 4) {
        // read before an entry is written, which for all the compiler knows might be where they lie
        const uint32_t to[] = {targets[j], targets[j + 1], targets[j + 2], targets[j + 3]};
        for (int q = 0; q < 4; ++q) file_one(j + q, to[q]);
      }
      for (; j < last; ++j) {
        graph.template deliver<false>(targets[j], j, 0,
                                      [&](int64_t post) { file_one(j, static_cast<uint32_t>(post)); });
      }
    }
    return true;
  }
};

}  // namespace brainsim

#endif  // BRAINSIM_FILED_H_
