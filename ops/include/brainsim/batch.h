// Leading batch axes: operands have the same number of them, each of size 1 (shared) or that of the batch.
#ifndef BRAINSIM_BATCH_H_
#define BRAINSIM_BATCH_H_

#include <array>
#include <cstdint>

#include "brainsim/both.h"

namespace brainsim {

constexpr int kMaxAxes = 16;
using Axes = std::array<int64_t, kMaxAxes>;

// The broadcast batch shape and a walk over its elements in row-major order.
class Batch {
 public:
  explicit Batch(size_t rank) : rank_(static_cast<int>(rank)) { shape_.fill(1); }

  bool ok() const { return ok_ && rank_ <= kMaxAxes; }

  // Takes the batch axes of an operand into the shape.
  template <typename Buffer>
  Batch& with(const Buffer& buffer) {
    auto dims = buffer.dimensions();
    if (rank_ > kMaxAxes || dims.size() < static_cast<size_t>(rank_)) {
      ok_ = false;
      return *this;
    }
    for (int a = 0; a < rank_; ++a) {
      if (dims[a] == shape_[a] || dims[a] == 1) continue;
      if (shape_[a] != 1) ok_ = false;
      shape_[a] = dims[a];
    }
    for (int a = rank_ - 1; a >= 0; --a) after_[a] = a + 1 < rank_ ? after_[a + 1] * shape_[a + 1] : 1;
    return *this;
  }

  // The coordinates of an element by its number, each computed as it is asked for: what an array of them would cost a
  // GPU is more than most of its blocks have to do.
  struct Element {
    const Batch& batch;
    int64_t b;
    BRAINSIM_BOTH int64_t operator[](int a) const { return b / batch.after_[a] % batch.shape_[a]; }
  };
  BRAINSIM_BOTH Element at(int64_t b) const { return {*this, b}; }

  // Calls f(coordinates) for every element of the batch.
  template <typename F>
  void each(F&& f) const {
    Axes at{};
    for (int64_t b = 0, n = size(); b < n; ++b) {
      f(at);
      for (int a = rank_ - 1; a >= 0 && ++at[a] == shape_[a]; --a) at[a] = 0;
    }
  }

  int rank() const { return rank_; }
  BRAINSIM_BOTH int64_t size() const {
    int64_t size = 1;
    for (int a = 0; a < rank_; ++a) size *= shape_[a];
    return size;
  }

 private:
  int rank_;
  bool ok_ = true;
  Axes shape_, after_{};  // `after_`: elements between neighbours along an axis
};

// An operand seen element by element of the batch.
template <typename T>
class View {
 public:
  template <typename Buffer>
  View(const Buffer& buffer, const Batch& batch)
      : data_(static_cast<T*>(buffer.untyped_data())), rank_(batch.rank()), size_(1) {
    auto dims = buffer.dimensions();
    for (size_t a = rank_; a < dims.size(); ++a) size_ *= dims[a];
    int64_t stride = size_;
    for (int a = rank_ - 1; a >= 0; --a) {
      stride_[a] = dims[a] == 1 ? 0 : stride;
      stride *= dims[a];
    }
    total_ = stride;
  }

  // One that all elements share.
  View(T* data, int64_t size) : data_(data), rank_(0), size_(size), total_(size) {}

  // First entry of the batch element at these coordinates, `Axes` or an `Element`.
  template <typename At>
  BRAINSIM_BOTH T* at(const At& coordinates) const {
    int64_t offset = 0;
    for (int a = 0; a < rank_; ++a) {
      if (stride_[a] != 0) offset += coordinates[a] * stride_[a];
    }
    return data_ + offset;
  }

  BRAINSIM_BOTH T* data() const { return data_; }
  BRAINSIM_BOTH int64_t size() const { return size_; }  // entries of one batch element
  int64_t total() const { return total_; }              // entries of all of them

 private:
  T* data_;
  int rank_;
  int64_t size_;
  int64_t total_;
  Axes stride_{};
};

}  // namespace brainsim

#endif  // BRAINSIM_BATCH_H_
