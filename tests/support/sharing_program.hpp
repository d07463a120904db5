// A Program of many rope ops that all point to the same attributes: FlatBuffers may share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/schemas/program_generated.h"

namespace troupe::test {

class sharing_program {
 public:
  // `pairs`: frequencies that each of the `ropes` ops has.
  static std::vector<std::uint8_t> bytes(std::uint32_t ropes, std::uint32_t pairs) {
    return sharing_program(pairs).build(ropes);
  }

 private:
  using kind = program::OpKind;
  using ids = std::vector<std::uint32_t>;

  explicit sharing_program(std::uint32_t pairs) : pairs_(pairs) {}

  std::vector<std::uint8_t> build(std::uint32_t ropes) {
    const std::uint32_t width = 2 * pairs_;
    const auto attrs = program::CreateRopeAttrs(b_, width, width, 10000, program::RopeLayout::half,
                                                b_.CreateVector(std::vector<float>(pairs_, 1.0f)), 1)
                           .Union();
    const auto row = tensor(program::Rows::tokens, width);
    const std::vector<flatbuffers::Offset<program::Weight>> weights = {weight("embed", {4, width}),
                                                                       weight("lm_head", {4, width})};
    op(kind::embed, {}, row, {0});
    for (std::uint32_t i = 0; i < ropes; ++i) op(kind::rope, {i}, row, {}, attrs);
    op(kind::select_rows, {ropes}, tensor(program::Rows::logit_rows, width), {});
    op(kind::linear, {ropes + 1}, tensor(program::Rows::logit_rows, 4), {1});
    const auto facts = program::CreateFacts(b_, b_.CreateString("HostileForCausalLM"), 4, width, 1, 64);
    const std::vector<flatbuffers::Offset<program::Cache>> no_caches;
    program::FinishProgramBuffer(
        b_, program::CreateProgram(b_, 1, 1, facts, b_.CreateVector(weights), b_.CreateVector(no_caches),
                                   b_.CreateVector(tensors_), b_.CreateVector(ops_), ropes + 2));
    return {b_.GetBufferPointer(), b_.GetBufferPointer() + b_.GetSize()};
  }

  flatbuffers::Offset<program::Tensor> tensor(program::Rows rows, std::uint64_t columns) {
    return program::CreateTensor(b_, rows, b_.CreateVector(std::vector<std::uint64_t>{columns}),
                                 program::DType::f32);
  }

  flatbuffers::Offset<program::Weight> weight(const char* name, const std::vector<std::uint64_t>& shape) {
    const auto source = program::CreateSource(b_, b_.CreateString(name));
    const auto spelling = program::CreateSpelling(b_, program::Combine::single, b_.CreateVector(&source, 1));
    return program::CreateWeight(b_, b_.CreateString(name), b_.CreateVector(shape),
                                 program::WeightRole::linear, b_.CreateVector(&spelling, 1));
  }

  // Its one output is the tensor of its own number.
  void op(kind k, const ids& inputs, flatbuffers::Offset<program::Tensor> output, const ids& weights,
          flatbuffers::Offset<void> attrs = {}) {
    const auto in = b_.CreateVector(inputs),
               out = b_.CreateVector(ids{static_cast<std::uint32_t>(ops_.size())}),
               used = b_.CreateVector(weights);
    const auto type = attrs.IsNull() ? program::OpAttrs::NONE : program::OpAttrs::RopeAttrs;
    ops_.push_back(program::CreateOp(b_, k, in, out, used, -1, type, attrs));
    tensors_.push_back(output);
  }

  std::uint32_t pairs_;
  flatbuffers::FlatBufferBuilder b_;
  std::vector<flatbuffers::Offset<program::Op>> ops_;
  std::vector<flatbuffers::Offset<program::Tensor>> tensors_;
};

}  // namespace troupe::test
