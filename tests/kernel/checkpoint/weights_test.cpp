#include <gmock/gmock.h>

#include "kernel/checkpoint/checkpoint.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::checkpoint {
namespace {

using namespace test;
using testing::HasSubstr;

std::string open_error(const temp_folder& folder, error_code code = error_code::bad_checkpoint) {
  const auto opened = weights::open(folder.path());
  if (opened) return "no error";
  EXPECT_EQ(opened.error().code, code);
  return opened.error().text;
}

TEST(Weights, MapsTheDemoCheckpoint) {
  const auto opened = weights::open(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
  ASSERT_TRUE(opened) << opened.error().text;
  const auto* lm_head = (*opened)->find("lm_head.weight");
  ASSERT_NE(lm_head, nullptr);
  EXPECT_EQ(lm_head->dtype, DType::bf16);
  EXPECT_THAT(lm_head->shape, testing::ElementsAre(4096, 256));
  EXPECT_EQ(lm_head->data.size(), 4096u * 256 * 2);
  EXPECT_EQ(lm_head->file, "model.safetensors");
  EXPECT_EQ((*opened)->find("lm_head"), nullptr);
  EXPECT_GT((*opened)->total_bytes(), 14'000'000u);
}

TEST(Weights, ReadsShardsThroughTheirIndex) {
  const temp_folder folder;
  write_safetensors(folder.path() / "one.safetensors", {bf16_tensor("a", {2}, {1, 2})});
  write_safetensors(folder.path() / "two.safetensors",
                    {bf16_tensor("b", {3}, {3, 4, 5}), bf16_tensor("a", {1}, {9})});
  folder.write(
      "model.safetensors.index.json",
      R"({"metadata": {"total_size": 10}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  const auto opened = weights::open(folder.path());
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_EQ((*opened)->tensors().size(), 2u);
  EXPECT_EQ((*opened)->total_bytes(), 10u);
  EXPECT_EQ((*opened)->find("a")->file, "one.safetensors");  // the index decides, not the other shard
  EXPECT_EQ((*opened)->find("b")->file, "two.safetensors");
}

TEST(Weights, SaysWhichShardIsMissing) {
  const temp_folder folder;
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "one.safetensors"}})");
  EXPECT_THAT(open_error(folder, error_code::not_found),
              HasSubstr("one.safetensors: cannot be read: No such file"));
}

TEST(Weights, SaysWhichTensorIsNotInItsShard) {
  const temp_folder folder;
  write_safetensors(folder.path() / "one.safetensors", {bf16_tensor("a", {2}, {1, 2})});
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}})");
  EXPECT_THAT(open_error(folder), HasSubstr("one.safetensors: tensor b: model.safetensors.index.json says"));
}

TEST(Weights, RefusesAnIndexThatLeavesTheFolder) {
  const temp_folder folder;
  for (const char* name : {"../one.safetensors", "/etc/passwd", "..", "", "a/b"}) {
    folder.write("model.safetensors.index.json", fmt::format(R"({{"weight_map": {{"a": "{}"}}}})", name));
    EXPECT_THAT(open_error(folder),
                HasSubstr("weight_map: tensor a: expected the name of a file in the same folder"));
  }
}

TEST(Weights, RefusesABrokenIndex) {
  const temp_folder folder;
  folder.write("model.safetensors.index.json", "{");
  EXPECT_THAT(open_error(folder), HasSubstr("model.safetensors.index.json: not valid JSON"));
  folder.write("model.safetensors.index.json", "[]");
  EXPECT_THAT(open_error(folder), HasSubstr("weight_map: expected an object"));
  folder.write("model.safetensors.index.json", R"({"weight_map": {}})");
  EXPECT_THAT(open_error(folder), HasSubstr("weight_map: expected tensors, found none"));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": 3}})");
  EXPECT_THAT(open_error(folder), HasSubstr("weight_map: tensor a"));
}

TEST(Weights, SaysWhatAFolderWithoutWeightsLacks) {
  const temp_folder folder;
  EXPECT_THAT(open_error(folder, error_code::not_found),
              HasSubstr("expected model.safetensors or model.safetensors.index.json, found neither"));
  folder.write("pytorch_model.bin", "x");
  EXPECT_THAT(open_error(folder, error_code::not_found), HasSubstr("convert it to safetensors"));
  EXPECT_EQ(weights::open(folder.path() / "none").error().code, error_code::not_found);
}

}  // namespace
}  // namespace troupe::checkpoint
