// Writes safetensors files for tests: well-formed ones, and ones with a header of the test's own.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace troupe::test {

struct stored_tensor {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

// Values rounded toward zero to bf16: exact for small integers and halves.
inline stored_tensor bf16_tensor(std::string name, std::vector<std::uint64_t> shape,
                                 const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    bytes.append(reinterpret_cast<const char*>(&bits), sizeof bits);
  }
  return {std::move(name), "BF16", std::move(shape), std::move(bytes)};
}

inline stored_tensor f32_tensor(std::string name, std::vector<std::uint64_t> shape,
                                const std::vector<float>& values) {
  std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return {std::move(name), "F32", std::move(shape), std::move(bytes)};
}

// 8 bytes of length, the header as it is, the data as it is.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

inline std::string safetensors_header(const std::vector<stored_tensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::uint64_t begin = 0;
  for (const auto& tensor : tensors) {
    header += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", tensor.name,
                          tensor.dtype, fmt::join(tensor.shape, ","), begin, begin + tensor.bytes.size());
    begin += tensor.bytes.size();
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');  // as the format's own library: data is aligned to 8
  return header;
}

inline void write_safetensors(const std::filesystem::path& file, const std::vector<stored_tensor>& tensors) {
  std::string data;
  for (const auto& tensor : tensors) data += tensor.bytes;
  const auto bytes = safetensors_bytes(safetensors_header(tensors), data);
  std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace troupe::test
