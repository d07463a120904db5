// What a warp needs for products on the tensor cores (compute capability 8.0 and later): copies into shared memory that run ahead,
// fragments from there, mma m16n8k16, and int8 numbers that become bf16 on their way.
#pragma once

#include "ops/device/cuda_math.cuh"

namespace troupe::ops::cuda {

constexpr int tile_depth = 64;  // of k, in a stage
constexpr int row_bytes = tile_depth * 2;

__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
// 16 bytes, of which the last 16 - size are zero.
__device__ inline void copy_ahead(unsigned to, const void* from, unsigned size) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size));
}
__device__ inline void close_group() {
  asm volatile("cp.async.commit_group;");
}
template <int Open>
__device__ inline void wait_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Open));
}
__device__ inline void load_matrices(unsigned (&out)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}
__device__ inline void load_transposed(unsigned (&out)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}
__device__ inline void load_two_matrices(unsigned& a, unsigned& b, unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(address));
}
__device__ inline void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Where 16-byte piece `piece` of row `row` stands in a tile of rows of 128 bytes.
__device__ inline unsigned piece_at(unsigned row, unsigned piece) {
  return row * row_bytes + ((piece ^ (row & 7)) << 4);
}

// Where number k of a row of b stands in it, for int8.
__host__ __device__ constexpr unsigned permuted(unsigned k) {
  return (k & ~63u) | (k >> 2 & 3) << 4 | (k & 1) << 3 | (k >> 4 & 3) << 1 | (k >> 1 & 1);
}
// The number that stands at `at`.
__host__ __device__ constexpr unsigned number_at(unsigned at) {
  return (at & ~63u) | (at >> 1 & 3) << 4 | (at >> 4 & 3) << 2 | (at & 1) << 1 | (at >> 3 & 1);
}
// Two bf16 of the even bytes of four int8 numbers, exactly: 128 + the low bits, less 128 or, for a negative one, 256.
__device__ inline unsigned widen_pair(std::uint32_t word) {
  const unsigned low = (word & 0x007f007fu) | 0x43004300u, origin = (word & 0x00800080u) | 0x43004300u;
  const __nv_bfloat162 pair = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&low),
                                      *reinterpret_cast<const __nv_bfloat162*>(&origin));
  return *reinterpret_cast<const unsigned*>(&pair);
}

}  // namespace troupe::ops::cuda
