// A checkpoint folder in Hugging Face format, as published: config.json, generation_config.json (optional),
// model.safetensors or sharded safetensors with model.safetensors.index.json. Tokenizer files are the
// tokenizer's business. A folder with synthetic.json instead of safetensors has made-up weights (synthetic.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/checkpoint/synthetic.hpp"
#include "troupe/schemas/program_generated.h"

namespace troupe::checkpoint {

using program::DType;

// One tensor in a mapped file. `data` lives as long as the weights object it came from.
struct tensor_view {
  DType dtype = DType::none;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> data;  // row-major, little endian, not necessarily aligned to its element
  std::string_view
      stored_dtype;       // as the file spells it: "BF16"; dtype is none for those that no weight may have
  std::string_view file;  // which file of the folder; lives as long as the weights object
};

// All safetensors files of a folder, mapped read-only and shared; nothing is copied. Any thread.
class weights {
 public:
  // Errors: not_found (the folder, its weights, or a shard that the index names), bad_checkpoint (file, tensor, expected
  // and found: header damaged, file truncated, offsets that overlap or leave gaps, tensor in the index but not in its
  // shard, unknown dtype; synthetic.json without a seed).
  static result<std::shared_ptr<const weights>> open(const std::filesystem::path& folder);
  // Made up for whatever is asked; no folder, no tensors.
  static std::shared_ptr<const weights> synthetic(std::uint64_t seed);

  const tensor_view* find(std::string_view name) const;  // null: no such tensor
  const std::map<std::string, tensor_view, std::less<>>& tensors() const { return tensors_; }
  std::uint64_t total_bytes() const { return total_bytes_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::optional<std::uint64_t> seed() const { return seed_; }  // of made-up weights; none: from files

 private:
  std::filesystem::path folder_;
  std::map<std::string, tensor_view, std::less<>> tensors_;
  std::vector<std::shared_ptr<const void>> mappings_;  // each keeps a file mapped and its name alive
  std::uint64_t total_bytes_ = 0;
  std::optional<std::uint64_t> seed_;
};

// What makes a folder's weights made-up ones: its text is {"seed": 1}.
inline constexpr const char* synthetic_name = "synthetic.json";

// generation_config.json; absent keys are absent here.
struct generation_defaults {
  std::vector<std::int32_t> eos_ids;
  std::optional<std::int32_t> bos_id;
  std::optional<float> temperature, top_p, repetition_penalty, min_p;
  std::optional<std::uint32_t> top_k, max_new_tokens;
  std::optional<bool> do_sample;
};

// The small files of a folder.
struct checkpoint_config {
  std::filesystem::path folder;
  std::string config_json;   // text of config.json, valid JSON
  std::string architecture;  // config.json: architectures[0]
  generation_defaults generation;
};
// Also of a config.json that stands alone, under whatever name. Errors: not_found, bad_checkpoint (file and key).
result<checkpoint_config> read_config(const std::filesystem::path& folder);

// ---- binding a Program's weights ----------------------------------------------------------------------

// A weight as a backend wants it: `planes` matrices of [rows, columns], each contiguous and row-major.
// Rank 1 is 1 plane of 1 row; rank 2 is 1 plane; rank 3 [E, M, N] is E planes of [M, N].
// Planes point into the mapped files wherever the stored order allows; else (transposition, mixed dtypes, which become
// f32, or a file that does not align its data) into `owned`. Planes are aligned to their element.
struct bound_weight {
  DType dtype = DType::none;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::vector<const std::byte*> planes;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> owned;
  std::optional<synthetic_numbers> synthetic;  // of made-up weights, which are bf16
  bool copied() const { return !owned.empty(); }
};

// Whether bind() fills the planes of made-up weights, or leaves them null for a device that makes the numbers by itself.
enum class made_up { filled, left_out };

// Errors: bad_checkpoint: no spelling is complete (lists what is missing), shape or dtype mismatch (tensor, expected,
// found).
result<bound_weight> bind(const program::Weight& weight, const weights& files,
                          made_up filled = made_up::filled);

}  // namespace troupe::checkpoint
