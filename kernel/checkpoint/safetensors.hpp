// The safetensors file format:
//
//   0         8                8 + N
//   | N: u64  | header: JSON   | data ...
//
// The header maps each tensor's name to {"dtype": "BF16", "shape": [4096, 256], "data_offsets": [begin, end]}, offsets
// counted from the start of the data. The tensors cover the data without gap or overlap. "__metadata__" holds strings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/mapped_file.hpp"

namespace troupe::checkpoint {

struct safetensors_entry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// The header's text as entries, in its order. Checks form only: JSON, keys, types, names that come twice.
// Error: bad_checkpoint, beginning with `file`.
result<std::vector<safetensors_entry>> parse_safetensors_header(std::string_view json, std::string_view file);

// The tensors of a whole file, everything checked. Views point into `file`.
// Error: bad_checkpoint, beginning with the file's name.
result<std::vector<std::pair<std::string, tensor_view>>> read_safetensors(const mapped_file& file);

// A dtype of the format. `type` is none for those that no weight may have; bits is 0 for unknown names.
struct stored_type {
  std::string_view name;
  std::uint32_t bits = 0;
  DType type = DType::none;
};
stored_type find_stored_type(std::string_view name);

}  // namespace troupe::checkpoint
