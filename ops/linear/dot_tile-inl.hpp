// The inner loop of linear and experts: dot products of a few rows of x with four rows of w.
//
// Every element is computed alike, whatever the tile around it: one accumulator of L lanes (lane i takes n =
// i, i + L, ...), fused multiply-adds in ascending n, the end of a row filled up with zeros, then one fixed
// tree of additions over the lanes. So a result does not depend on how many rows are computed together.
//
// Included once per instruction set (Highway's foreach_target).
#if defined(TROUPE_OPS_LINEAR_DOT_TILE) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_OPS_LINEAR_DOT_TILE
#undef TROUPE_OPS_LINEAR_DOT_TILE
#else
#define TROUPE_OPS_LINEAR_DOT_TILE
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace troupe::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using lanes_f32 = hn::ScalableTag<float>;
using vector_f32 = hn::Vec<lanes_f32>;

// Rows of x that a tile may have: as many as the registers hold accumulators for.
#if HWY_TARGET <= HWY_AVX3
constexpr int tile_rows = 6;
#else
constexpr int tile_rows = 2;
#endif
constexpr int tile_columns = 4;

// How L consecutive weights become f32. `p` need not be aligned.
struct stored_bf16 {
  static constexpr std::size_t bytes = 2;
  static HWY_INLINE vector_f32 load(const std::byte* HWY_RESTRICT p) {
    const lanes_f32 d;
    const hn::Rebind<std::uint16_t, lanes_f32> d16;
    const hn::RebindToUnsigned<lanes_f32> d32;
    const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
  }
};
struct stored_f16 {
  static constexpr std::size_t bytes = 2;
  static HWY_INLINE vector_f32 load(const std::byte* HWY_RESTRICT p) {
    const lanes_f32 d;
    const hn::Rebind<hwy::float16_t, lanes_f32> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
  }
};
struct stored_f32 {
  static constexpr std::size_t bytes = 4;
  static HWY_INLINE vector_f32 load(const std::byte* HWY_RESTRICT p) {
    return hn::LoadU(lanes_f32(), reinterpret_cast<const float*>(p));
  }
};

// Sums of the lanes of four vectors, stored to out[0..3]; the same tree for each of the four.
HWY_INLINE void store_four_sums(vector_f32 a, vector_f32 b, vector_f32 c, vector_f32 e,
                                float* HWY_RESTRICT out) {
  const lanes_f32 d;
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a);
  out[1] = hn::GetLane(b);
  out[2] = hn::GetLane(c);
  out[3] = hn::GetLane(e);
  (void)d;
#else
  const hn::RepartitionToWide<lanes_f32> d64;
  const auto ab = hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto ce = hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  const auto even = hn::BitCast(d, hn::InterleaveLower(d64, ab, ce));
  const auto odd = hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce));
  const auto sums = hn::Add(even, odd);  // each block of 4 lanes: partial sums of a, b, c, e
  const hn::CappedTag<float, 4> d4;
#if HWY_TARGET <= HWY_AVX3
  const hn::Half<lanes_f32> d8;
  const auto half = hn::Add(hn::LowerHalf(d8, sums), hn::UpperHalf(d8, sums));
  hn::StoreU(hn::Add(hn::LowerHalf(d4, half), hn::UpperHalf(d4, half)), d4, out);
#elif HWY_TARGET == HWY_AVX2
  hn::StoreU(hn::Add(hn::LowerHalf(d4, sums), hn::UpperHalf(d4, sums)), d4, out);
#else
  hn::StoreU(sums, d4, out);
#endif
#endif
}

// out[r][c] = x[r] · w[c] over n elements, for r < Rows and c < 4.
template <int Rows, class Stored>
HWY_INLINE void dot_tile(const float* const* HWY_RESTRICT x, const std::byte* const* HWY_RESTRICT w,
                         std::size_t n, float (*HWY_RESTRICT out)[tile_columns]) {
  const lanes_f32 d;
  constexpr std::size_t lanes = hn::MaxLanes(lanes_f32());
  vector_f32 sums[Rows][tile_columns];
  for (int r = 0; r < Rows; ++r) {
    for (int c = 0; c < tile_columns; ++c) sums[r][c] = hn::Zero(d);
  }

  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    vector_f32 weights[tile_columns];
    for (int c = 0; c < tile_columns; ++c) weights[c] = Stored::load(w[c] + i * Stored::bytes);
    for (int r = 0; r < Rows; ++r) {
      const auto values = hn::LoadU(d, x[r] + i);
      for (int c = 0; c < tile_columns; ++c) sums[r][c] = hn::MulAdd(values, weights[c], sums[r][c]);
    }
  }
  if (i < n) {
    HWY_ALIGN float values_end[Rows][lanes] = {};
    HWY_ALIGN std::byte weights_end[tile_columns][lanes * Stored::bytes] = {};
    for (int r = 0; r < Rows; ++r) std::memcpy(values_end[r], x[r] + i, (n - i) * sizeof(float));
    for (int c = 0; c < tile_columns; ++c) {
      std::memcpy(weights_end[c], w[c] + i * Stored::bytes, (n - i) * Stored::bytes);
    }
    for (int r = 0; r < Rows; ++r) {
      const auto values = hn::LoadU(d, values_end[r]);
      for (int c = 0; c < tile_columns; ++c) {
        sums[r][c] = hn::MulAdd(values, Stored::load(weights_end[c]), sums[r][c]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) store_four_sums(sums[r][0], sums[r][1], sums[r][2], sums[r][3], out[r]);
}

// The same for any number of rows up to tile_rows.
template <class Stored>
HWY_INLINE void dot_rows(int rows, const float* const* HWY_RESTRICT x, const std::byte* const* HWY_RESTRICT w,
                         std::size_t n, float (*HWY_RESTRICT out)[tile_columns]) {
#if HWY_TARGET <= HWY_AVX3
  if (rows == 6) return dot_tile<6, Stored>(x, w, n, out);
  if (rows == 5) return dot_tile<5, Stored>(x, w, n, out);
  if (rows == 4) return dot_tile<4, Stored>(x, w, n, out);
  if (rows == 3) return dot_tile<3, Stored>(x, w, n, out);
#endif
  if (rows == 2) return dot_tile<2, Stored>(x, w, n, out);
  dot_tile<1, Stored>(x, w, n, out);
}

// Calls visit(Stored{}) with the way in which `dtype` is stored.
template <class Visit>
HWY_INLINE void with_stored(DType dtype, const Visit& visit) {
  if (dtype == DType::bf16) return visit(stored_bf16{});
  if (dtype == DType::f16) return visit(stored_f16{});
  visit(stored_f32{});
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::ops
HWY_AFTER_NAMESPACE();

#endif
