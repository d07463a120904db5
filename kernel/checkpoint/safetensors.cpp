#include "kernel/checkpoint/safetensors.hpp"

#include <algorithm>
#include <array>
#include <boost/json/basic_parser_impl.hpp>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "kernel/base/text.hpp"

namespace troupe::checkpoint {

namespace {

namespace json = boost::json;

constexpr std::uint64_t max_header_bytes = 100'000'000;  // as the format's own library has it
constexpr std::size_t max_rank = 8;

constexpr std::array<stored_type, 16> stored_types = {{
    {"F32", 32, DType::f32},
    {"BF16", 16, DType::bf16},
    {"F16", 16, DType::f16},
    {"I32", 32, DType::none},
    {"F64", 64},
    {"I64", 64},
    {"U64", 64},
    {"U32", 32},
    {"I16", 16},
    {"U16", 16},
    {"I8", 8},
    {"U8", 8},
    {"BOOL", 8},
    {"F8_E4M3", 8},
    {"F8_E5M2", 8},
    {"F8_E8M0", 8},
}};

// Receives the header's JSON piece by piece, so that a name that comes twice is seen and no tree is built.
// Depth 1 is the header, depth 2 a tensor (or the metadata), depth 3 its shape or offsets.
class header_handler {
 public:
  static constexpr std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_array_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_key_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_string_size = std::numeric_limits<std::size_t>::max();
  using error_code = boost::system::error_code;

  std::vector<safetensors_entry> entries;
  std::string problem;  // why the parser was stopped, if it was

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }

  bool on_object_begin(error_code& ec) {
    if (++depth_ == 1) return true;
    if (depth_ > 2) return stop(ec, "an object where none belongs");
    if (in_metadata_) return true;
    entries.push_back({key_, {}, {}, 0, 0});
    fields_ = 0;
    return names_.insert(key_).second || stop(ec, "the name comes twice");
  }
  bool on_object_end(std::size_t, error_code& ec) {
    if (depth_-- == 2 && !in_metadata_ && fields_ != all_fields)
      return stop(ec, "expected dtype, shape and data_offsets, each once");
    if (depth_ == 1) in_metadata_ = false;
    return true;
  }
  bool on_array_begin(error_code& ec) {
    numbers_.clear();
    if (depth_ != 2 || in_metadata_ || (key_ != "shape" && key_ != "data_offsets"))
      return stop(ec, "an array where none belongs");
    in_array_ = true;
    return true;
  }
  bool on_array_end(std::size_t, error_code& ec) {
    in_array_ = false;
    if (key_ == "shape") {
      if (numbers_.size() > max_rank) return stop(ec, "a shape with too many dimensions");
      entries.back().shape = numbers_;
      return field(ec, 2);
    }
    if (numbers_.size() != 2) return stop(ec, "data_offsets: expected two numbers");
    entries.back().begin = numbers_[0];
    entries.back().end = numbers_[1];
    return field(ec, 4);
  }
  bool on_key_part(json::string_view part, std::size_t, error_code&) {
    append_key(part);
    return true;
  }
  bool on_key(json::string_view part, std::size_t, error_code&) {
    append_key(part);
    key_open_ = false;
    if (depth_ == 1) {
      in_metadata_ = key_ == "__metadata__";
      tensor_ = key_;
    }
    return true;
  }
  bool on_string_part(json::string_view part, std::size_t, error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(json::string_view part, std::size_t, error_code& ec) {
    text_.append(part.data(), part.size());
    const std::string value = std::exchange(text_, {});
    if (depth_ == 2 && in_metadata_) return true;
    if (depth_ != 2 || in_array_ || key_ != "dtype") return stop(ec, "a string where none belongs");
    entries.back().dtype = value;
    return field(ec, 1);
  }
  bool on_number_part(json::string_view, error_code&) { return true; }
  bool on_int64(std::int64_t value, json::string_view, error_code& ec) {
    if (value < 0) return stop(ec, "a negative number");
    return on_uint64(static_cast<std::uint64_t>(value), {}, ec);
  }
  bool on_uint64(std::uint64_t value, json::string_view, error_code& ec) {
    if (!in_array_) return stop(ec, "a number where none belongs");
    numbers_.push_back(value);
    return true;
  }
  bool on_double(double, json::string_view, error_code& ec) {
    return stop(ec, "a number that is not an integer");
  }
  bool on_bool(bool, error_code& ec) { return stop(ec, "true or false where none belongs"); }
  bool on_null(error_code& ec) { return stop(ec, "null where none belongs"); }
  bool on_comment_part(json::string_view, error_code&) { return true; }
  bool on_comment(json::string_view, error_code&) { return true; }

 private:
  static constexpr unsigned all_fields = 7;

  void append_key(json::string_view part) {
    if (!key_open_) key_.clear();
    key_open_ = true;
    key_.append(part.data(), part.size());
  }
  bool field(error_code& ec, unsigned bit) {
    if ((fields_ & bit) != 0) return stop(ec, "expected dtype, shape and data_offsets, each once");
    fields_ |= bit;
    return true;
  }
  bool stop(error_code& ec, std::string_view why) {
    problem = depth_ >= 1 && !tensor_.empty() ? fmt::format("tensor {}: {}", tensor_, why) : std::string(why);
    ec = json::error::exception;  // any error stops the parser
    return false;
  }

  int depth_ = 0;
  bool key_open_ = false;
  bool in_metadata_ = false;
  bool in_array_ = false;
  unsigned fields_ = 0;
  std::string key_, text_, tensor_;
  std::vector<std::uint64_t> numbers_;
  std::unordered_set<std::string> names_;
};

// Bytes of a tensor of that shape; nothing if that does not fit 63 bits.
std::optional<std::uint64_t> bytes_of(const std::vector<std::uint64_t>& shape, std::uint32_t bits) {
  std::uint64_t product = bits / 8;
  for (const std::uint64_t dimension : shape)
    if (__builtin_mul_overflow(product, dimension, &product)) return std::nullopt;
  if (product > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  return product;
}

result<void> check_sizes(const std::vector<safetensors_entry>& entries, std::string_view file) {
  for (const auto& entry : entries) {
    const auto type = find_stored_type(entry.dtype);
    if (type.bits == 0)
      return fail(error_code::bad_checkpoint, "{}: tensor {}: unknown dtype {}", file, entry.name,
                  entry.dtype);
    const auto expected = bytes_of(entry.shape, type.bits);
    if (!expected)
      return fail(error_code::bad_checkpoint, "{}: tensor {}: shape {} is too large", file, entry.name,
                  shape_text(entry.shape));
    if (entry.end < entry.begin)
      return fail(error_code::bad_checkpoint, "{}: tensor {}: data_offsets [{}, {}] run backwards", file,
                  entry.name, entry.begin, entry.end);
    if (entry.end - entry.begin != *expected)
      return fail(error_code::bad_checkpoint, "{}: tensor {}: expected {} bytes ({} {}), found {}", file,
                  entry.name, *expected, entry.dtype, shape_text(entry.shape), entry.end - entry.begin);
  }
  return {};
}

// The tensors in order of their offsets must cover [0, data_bytes) exactly.
result<void> check_cover(const std::vector<safetensors_entry>& entries, std::uint64_t data_bytes,
                         std::string_view file) {
  std::vector<const safetensors_entry*> sorted;
  sorted.reserve(entries.size());
  for (const auto& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  std::uint64_t covered = 0;
  for (const auto* entry : sorted) {
    if (entry->begin != covered)
      return fail(error_code::bad_checkpoint,
                  "{}: tensor {}: expected to begin at byte {} of the data, found {} ({})", file, entry->name,
                  covered, entry->begin, entry->begin < covered ? "overlap" : "gap");
    covered = entry->end;
  }
  if (covered > data_bytes)
    return fail(error_code::bad_checkpoint, "{}: the file is truncated: expected {} bytes of data, found {}",
                file, covered, data_bytes);
  if (covered < data_bytes)
    return fail(error_code::bad_checkpoint,
                "{}: expected {} bytes of data, found {}: {} bytes belong to no tensor", file, covered,
                data_bytes, data_bytes - covered);
  return {};
}

}  // namespace

stored_type find_stored_type(std::string_view name) {
  const auto found = std::find_if(stored_types.begin(), stored_types.end(),
                                  [&](const auto& type) { return type.name == name; });
  return found == stored_types.end() ? stored_type{} : *found;
}

result<std::vector<safetensors_entry>> parse_safetensors_header(std::string_view text,
                                                                std::string_view file) {
  json::parse_options options;
  options.max_depth = 8;
  json::basic_parser<header_handler> parser(options);
  boost::system::error_code ec;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (!parser.handler().problem.empty())
    return fail(error_code::bad_checkpoint, "{}: header: {}", file, parser.handler().problem);
  if (ec || !parser.done())
    return fail(error_code::bad_checkpoint, "{}: header is not valid JSON: {} (byte {})", file,
                ec ? ec.message() : "incomplete", used);
  if (text.find_first_not_of(" \t\r\n", used) != std::string_view::npos)
    return fail(error_code::bad_checkpoint, "{}: header is not valid JSON: text behind its end (byte {})",
                file, used);
  return std::move(parser.handler().entries);
}

result<std::vector<std::pair<std::string, tensor_view>>> read_safetensors(const mapped_file& file) {
  const auto bytes = file.bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes)
    return fail(error_code::bad_checkpoint, "{}: {} bytes, too short for a safetensors file", file.name(),
                bytes.size());
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  if (header_bytes > max_header_bytes || header_bytes < 2)
    return fail(error_code::bad_checkpoint, "{}: not a safetensors file: header length {}, expected 2 to {}",
                file.name(), header_bytes, max_header_bytes);
  if (header_bytes > bytes.size() - sizeof header_bytes)
    return fail(error_code::bad_checkpoint,
                "{}: the file is truncated: expected a header of {} bytes, found {}", file.name(),
                header_bytes, bytes.size() - sizeof header_bytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof header_bytes,
                              header_bytes);
  if (text.front() != '{')
    return fail(error_code::bad_checkpoint, "{}: not a safetensors file: the header does not begin with {{",
                file.name());
  auto entries = parse_safetensors_header(text, file.name());
  if (!entries) return fail(std::move(entries.error()));
  const auto data = bytes.subspan(sizeof header_bytes + header_bytes);
  if (auto ok = check_sizes(*entries, file.name()); !ok) return fail(std::move(ok.error()));
  if (auto ok = check_cover(*entries, data.size(), file.name()); !ok) return fail(std::move(ok.error()));

  std::vector<std::pair<std::string, tensor_view>> tensors;
  tensors.reserve(entries->size());
  for (auto& entry : *entries) {
    const auto type = find_stored_type(entry.dtype);
    tensors.emplace_back(
        std::move(entry.name),
        tensor_view{type.type, std::move(entry.shape), data.subspan(entry.begin, entry.end - entry.begin),
                    type.name, file.name()});
  }
  return tensors;
}

}  // namespace troupe::checkpoint
