// From a Program's weight to matrices in memory. A source becomes a strided view of the mapped file (reshape,
// slice and transposition change numbers, not data); views are combined to planes; a plane whose pieces stand
// one behind the other in memory stays where it is, any other is copied.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernel/base/text.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/convert.hpp"
#include "kernel/checkpoint/safetensors.hpp"
#include "kernel/program/program.hpp"

namespace troupe::checkpoint {

namespace {

using shape_type = std::vector<std::uint64_t>;

// A source after its steps. Strides in elements.
struct strided_view {
  const tensor_view* stored = nullptr;
  std::string_view name;
  const std::byte* data = nullptr;
  shape_type shape;
  shape_type strides;
};

// Rows of a plane: element (r, c) is at data + (r * row_stride + c * column_stride) elements.
struct piece {
  const std::byte* data = nullptr;
  DType dtype = DType::none;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::uint64_t row_stride = 0;
  std::uint64_t column_stride = 0;
};
using plane_pieces = std::vector<piece>;

shape_type to_shape(const flatbuffers::Vector<std::uint64_t>* dimensions) {
  return dimensions == nullptr ? shape_type{} : shape_type(dimensions->begin(), dimensions->end());
}

std::uint64_t elements(const shape_type& shape) {
  std::uint64_t product = 1;
  for (const auto dimension : shape)
    if (__builtin_mul_overflow(product, dimension, &product)) return 0;
  return product;
}

std::string where(const program::Weight& weight, const strided_view& view) {
  return fmt::format("{}: tensor {} (for weight {})", view.stored->file, view.name,
                     weight.name()->string_view());
}

// ---- one source ---------------------------------------------------------------------------------------

result<void> reshape(const program::Weight& weight, const program::Source& source, strided_view& view) {
  if (source.reshape() != nullptr && source.reshape()->size() > 0) {
    const auto wanted = to_shape(source.reshape());
    if (elements(wanted) != elements(view.shape))
      return fail(error_code::bad_checkpoint, "{}: expected a shape that can be seen as {}, found {}",
                  where(weight, view), shape_text(wanted), shape_text(view.shape));
    view.shape = wanted;
  }
  view.strides.assign(view.shape.size(), 1);
  for (std::size_t axis = view.shape.size(); axis-- > 1;)
    view.strides[axis - 1] = view.strides[axis] * view.shape[axis];
  return {};
}

result<void> slice(const program::Weight& weight, const program::Source& source, strided_view& view) {
  if (source.slice_axis() < 0) return {};
  const auto axis = static_cast<std::size_t>(source.slice_axis());
  if (axis >= view.shape.size() || source.slice_begin() >= source.slice_end() ||
      source.slice_end() > view.shape[axis])
    return fail(error_code::bad_checkpoint, "{}: expected at least {} along axis {}, found {}",
                where(weight, view), source.slice_end(), axis, shape_text(view.shape));
  view.data += source.slice_begin() * view.strides[axis] * program::size_of(view.stored->dtype);
  view.shape[axis] = source.slice_end() - source.slice_begin();
  return {};
}

result<strided_view> view_source(const program::Weight& weight, const program::Source& source,
                                 const weights& files) {
  strided_view view;
  view.name = source.tensor()->string_view();
  view.stored = files.find(view.name);
  if (view.stored->dtype == DType::none)
    return fail(error_code::bad_checkpoint, "{}: expected F32, BF16 or F16, found {}", where(weight, view),
                view.stored->stored_dtype);
  view.data = view.stored->data.data();
  view.shape = view.stored->shape;
  if (auto ok = reshape(weight, source, view); !ok) return fail(std::move(ok.error()));
  if (auto ok = slice(weight, source, view); !ok) return fail(std::move(ok.error()));
  if (source.transpose()) {
    const auto rank = view.shape.size();
    if (rank < 2)
      return fail(error_code::bad_checkpoint, "{}: expected at least two dimensions to transpose, found {}",
                  where(weight, view), shape_text(view.shape));
    std::swap(view.shape[rank - 1], view.shape[rank - 2]);
    std::swap(view.strides[rank - 1], view.strides[rank - 2]);
  }
  return view;
}

// ---- views to planes ----------------------------------------------------------------------------------

// A view of rank 1 is a column here; a rank-1 weight is relabelled as one row at the end.
void append_planes(const strided_view& view, std::vector<plane_pieces>& planes) {
  const auto size = program::size_of(view.stored->dtype);
  const auto& n = view.shape;
  const auto& s = view.strides;
  const auto make = [&](const std::byte* data) -> piece {
    if (n.size() == 1) return {data, view.stored->dtype, n[0], 1, s[0], 1};
    const auto last = n.size() - 1;
    return {data, view.stored->dtype, n[last - 1], n[last], s[last - 1], s[last]};
  };
  if (n.size() < 3) return planes.push_back({make(view.data)});
  for (std::uint64_t plane = 0; plane < n[0]; ++plane)
    planes.push_back({make(view.data + plane * s[0] * size)});
}

result<void> expect_shape(const program::Weight& weight, const strided_view& view, const shape_type& expected,
                          std::size_t first_axis) {
  if (view.shape.size() == expected.size() &&
      std::equal(view.shape.begin() + static_cast<std::ptrdiff_t>(first_axis), view.shape.end(),
                 expected.begin() + static_cast<std::ptrdiff_t>(first_axis)))
    return {};
  return fail(error_code::bad_checkpoint, "{}: expected {}{}, found {}", where(weight, view),
              shape_text(expected), first_axis == 0 ? "" : " (any first dimension)", shape_text(view.shape));
}

result<std::vector<plane_pieces>> combine(const program::Weight& weight, program::Combine how,
                                          const std::vector<strided_view>& views) {
  const shape_type shape = to_shape(weight.shape());
  std::vector<plane_pieces> planes;
  if (how == program::Combine::stack) {
    const shape_type inner(shape.begin() + 1, shape.end());
    for (const auto& view : views) {
      if (auto ok = expect_shape(weight, view, inner, 0); !ok) return fail(std::move(ok.error()));
      append_planes(view, planes);
    }
    if (shape.size() == 3) return planes;
    plane_pieces rows;  // rank 2: each source is a row
    for (const auto& plane : planes)
      rows.push_back({plane[0].data, plane[0].dtype, 1, plane[0].rows, plane[0].rows, plane[0].row_stride});
    return std::vector<plane_pieces>{std::move(rows)};
  }
  std::uint64_t first = 0;
  for (const auto& view : views) {
    if (auto ok = expect_shape(weight, view, shape, how == program::Combine::concat ? 1 : 0); !ok)
      return fail(std::move(ok.error()));
    first += view.shape[0];
    append_planes(view, planes);
  }
  if (first != shape[0])
    return fail(error_code::bad_checkpoint,
                "{}: weight {}: expected {} along axis 0 over its {} tensors, found {}",
                views[0].stored->file, weight.name()->string_view(), shape[0], views.size(), first);
  if (shape.size() == 3) return planes;
  plane_pieces all;
  for (auto& plane : planes) all.push_back(plane[0]);
  return std::vector<plane_pieces>{std::move(all)};
}

// ---- planes to memory ---------------------------------------------------------------------------------

// Where the plane stands as it should already; else null.
const std::byte* in_place(const plane_pieces& plane, DType dtype) {
  const std::byte* next = plane[0].data;
  for (const auto& p : plane) {
    const bool dense = (p.column_stride == 1 || p.columns == 1) && (p.row_stride == p.columns || p.rows == 1);
    if (p.dtype != dtype || p.data != next || !dense) return nullptr;
    next += p.rows * p.columns * program::size_of(dtype);
  }
  const auto address = reinterpret_cast<std::uintptr_t>(plane[0].data);
  return address % program::size_of(dtype) == 0 ? plane[0].data : nullptr;
}

template <class Copy>
void for_each_tile(const piece& p, const Copy& copy) {
  constexpr std::uint64_t tile = 64;  // keeps both sides of a transposition in the first-level cache
  for (std::uint64_t r = 0; r < p.rows; r += tile)
    for (std::uint64_t c = 0; c < p.columns; c += tile)
      for (std::uint64_t i = r; i < std::min(r + tile, p.rows); ++i)
        for (std::uint64_t j = c; j < std::min(c + tile, p.columns); ++j)
          copy(i * p.row_stride + j * p.column_stride, i * p.columns + j);
}

template <std::size_t Bytes>
void copy_same(const piece& p, std::byte* out) {
  for_each_tile(p, [&](std::uint64_t from, std::uint64_t to) {
    std::memcpy(out + to * Bytes, p.data + from * Bytes, Bytes);
  });
}

void copy_as_f32(const piece& p, std::byte* out) {
  const auto size = program::size_of(p.dtype);
  for_each_tile(p, [&](std::uint64_t from, std::uint64_t to) {
    const float value = load_f32(p.data + from * size, p.dtype);
    std::memcpy(out + to * sizeof value, &value, sizeof value);
  });
}

void copy_plane(const plane_pieces& plane, DType dtype, std::byte* out) {
  const auto size = program::size_of(dtype);
  for (const auto& p : plane) {
    if (p.dtype != dtype)
      copy_as_f32(p, out);
    else if (size == 2)
      copy_same<2>(p, out);
    else
      copy_same<4>(p, out);
    out += p.rows * p.columns * size;
  }
}

bound_weight to_memory(const std::vector<plane_pieces>& planes, std::size_t rank) {
  bound_weight bound;
  bound.dtype = planes[0][0].dtype;
  for (const auto& plane : planes)
    for (const auto& p : plane)
      if (p.dtype != bound.dtype) bound.dtype = DType::f32;
  bound.columns = planes[0][0].columns;
  for (const auto& p : planes[0]) bound.rows += p.rows;
  const auto plane_bytes = bound.rows * bound.columns * program::size_of(bound.dtype);
  for (const auto& plane : planes) {
    const std::byte* data = in_place(plane, bound.dtype);
    if (data == nullptr) {
      auto copy = std::make_shared<std::vector<std::byte>>(plane_bytes);
      copy_plane(plane, bound.dtype, copy->data());
      data = copy->data();
      bound.owned.push_back(std::move(copy));
    }
    bound.planes.push_back(data);
  }
  if (rank == 1) std::swap(bound.rows, bound.columns);
  return bound;
}

// ---- spellings ----------------------------------------------------------------------------------------

std::vector<std::string_view> missing(const program::Spelling& spelling, const weights& files) {
  std::vector<std::string_view> names;
  for (const auto* source : *spelling.sources())
    if (files.find(source->tensor()->string_view()) == nullptr)
      names.push_back(source->tensor()->string_view());
  return names;
}

error no_spelling(const program::Weight& weight, const weights& files) {
  std::string text;
  for (const auto* spelling : *weight.spellings()) {
    auto names = missing(*spelling, files);
    const auto count = names.size();
    if (count > 3) names.resize(3);
    text += fmt::format("{}{}{}", text.empty() ? "" : "; nor ", fmt::join(names, ", "),
                        count > 3 ? fmt::format(" and {} more", count - 3) : "");
  }
  return {error_code::bad_checkpoint,
          fmt::format("{}: weight {}: not in the checkpoint: {}", files.folder().string(),
                      weight.name()->string_view(), text)};
}

// ---- made-up weights ----------------------------------------------------------------------------------

// FNV-1a of the name, mixed with the seed: weights have their own numbers, in whatever order they are made.
std::uint64_t key_of(std::string_view name, std::uint64_t seed) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return synthetic_bits(hash, seed);
}

// Numbers that keep activations near 1: matrices by their inputs, norms around 1, other vectors small.
bound_weight make_up(const program::Weight& weight, std::uint64_t seed, made_up filled) {
  const auto shape = to_shape(weight.shape());
  bound_weight bound;
  bound.dtype = DType::bf16;
  bound.columns = shape.back();
  bound.rows = shape.size() == 1 ? 1 : shape[shape.size() - 2];
  bound.planes.resize(shape.size() == 3 ? shape[0] : 1);
  synthetic_numbers numbers{key_of(weight.name()->string_view(), seed), 0, 0.1F};
  if (weight.role() == program::WeightRole::norm) numbers.centre = 1;
  if (weight.role() == program::WeightRole::embedding)
    numbers.reach = std::sqrt(3.0F);
  else if (shape.size() > 1)
    numbers.reach = std::sqrt(3.0F / static_cast<float>(bound.columns));
  bound.synthetic = numbers;
  if (filled == made_up::left_out) return bound;
  const std::uint64_t count = bound.rows * bound.columns;
  for (std::size_t p = 0; p < bound.planes.size(); ++p) {
    auto made = std::make_shared<std::vector<std::byte>>(count * sizeof(std::uint16_t));
    synthesize(numbers, p, 0, count, reinterpret_cast<std::uint16_t*>(made->data()));
    bound.planes[p] = made->data();
    bound.owned.push_back(std::move(made));
  }
  return bound;
}

}  // namespace

result<bound_weight> bind(const program::Weight& weight, const weights& files, made_up filled) {
  if (files.seed()) return make_up(weight, *files.seed(), filled);
  const auto* spelling = static_cast<const program::Spelling*>(nullptr);
  for (const auto* candidate : *weight.spellings())
    if (spelling == nullptr && missing(*candidate, files).empty()) spelling = candidate;
  if (spelling == nullptr) return fail(no_spelling(weight, files));

  std::vector<strided_view> views;
  views.reserve(spelling->sources()->size());
  for (const auto* source : *spelling->sources()) {
    auto view = view_source(weight, *source, files);
    if (!view) return fail(std::move(view.error()));
    views.push_back(std::move(*view));
  }
  const auto planes = combine(weight, spelling->combine(), views);
  if (!planes) return fail(planes.error());
  return to_memory(*planes, weight.shape()->size());
}

}  // namespace troupe::checkpoint
