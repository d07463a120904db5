// Asks a native op for the shapes of its outputs while there is no Program yet; for the builder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <troupe/sdk/native_op.hpp>
#include <troupe/sdk/parts.hpp>
#include <vector>

namespace troupe::sdk {

class shape_query {
 public:
  void input(std::uint64_t columns, program::DType dtype) {
    inputs_.push_back(shaped(troupe_tensor{}, {0, columns}));
    inputs_.back().dtype = static_cast<troupe_dtype>(dtype);
  }
  void weight(const shape& dimensions) { weights_.push_back(shaped(troupe_weight{}, dimensions)); }
  void state(const shape& dimensions) {
    states_.push_back(shaped(troupe_tensor{}, dimensions));
    states_.back().dtype = TROUPE_F32;
  }
  void attribute(const std::string& name, double value) { attributes_.push_back({name.c_str(), value}); }

  // The outputs [rows, columns]. Throws native_error with the op's own words, or if a number of operands is wrong.
  std::vector<troupe_tensor> ask(const troupe_native_op& op, program::Rows rows) {
    std::uint32_t least = 0;
    while (least < op.weight_count && op.weights[least].is_optional == 0) ++least;
    expect("inputs", inputs_.size(), op.input_count, op.input_count);
    expect("weights", weights_.size(), least, op.weight_count);
    expect("states", states_.size(), op.state_count, op.state_count);
    std::vector<troupe_tensor> outputs(op.output_count);
    std::string problem;
    const troupe_native_use use = {sizeof use,
                                   static_cast<std::uint32_t>(rows),
                                   op.input_count,
                                   op.output_count,
                                   static_cast<std::uint32_t>(weights_.size()),
                                   op.state_count,
                                   static_cast<std::uint32_t>(attributes_.size()),
                                   inputs_.data(),
                                   outputs.data(),
                                   weights_.data(),
                                   states_.data(),
                                   attributes_.data(),
                                   &problem,
                                   [](void* context, const char* text) -> troupe_status {
                                     *static_cast<std::string*>(context) = text;
                                     return TROUPE_FAILED;
                                   }};
    if (op.shapes(&use) != TROUPE_OK) throw native_error(problem);
    return outputs;
  }

 private:
  template <class Table>
  static Table shaped(Table table, const shape& dimensions) {
    table.rank = static_cast<std::uint32_t>(dimensions.size());
    for (std::size_t i = 0; i < TROUPE_MAX_DIMENSIONS; ++i)
      table.shape[i] = i < dimensions.size() ? dimensions[i] : 1;
    return table;
  }
  static void expect(const char* what, std::size_t found, std::size_t least, std::size_t most) {
    if (found < least || found > most)
      throw native_error("expected " + (least < most ? std::to_string(least) + " to " : "") +
                         std::to_string(most) + " " + what + ", found " + std::to_string(found));
  }

  std::vector<troupe_tensor> inputs_, states_;
  std::vector<troupe_weight> weights_;
  std::vector<troupe_attribute> attributes_;
};

}  // namespace troupe::sdk
