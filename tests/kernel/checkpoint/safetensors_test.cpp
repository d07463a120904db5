#include "kernel/checkpoint/safetensors.hpp"

#include <gmock/gmock.h>

#include <random>

#include "kernel/checkpoint/checkpoint.hpp"
#include "tests/support/safetensors_writer.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::checkpoint {
namespace {

using namespace test;
using testing::HasSubstr;

// A header and data that must be refused, and a part of the sentence that must come out.
struct damaged_case {
  const char* name;
  std::string header;
  std::string data;
  const char* text;
};
void PrintTo(const damaged_case& c, std::ostream* out) {
  *out << c.name;
}

class Damaged : public testing::TestWithParam<damaged_case> {};

TEST_P(Damaged, NamesFileAndTensor) {
  const temp_folder folder;
  folder.write("model.safetensors", safetensors_bytes(GetParam().header, GetParam().data));
  const auto opened = weights::open(folder.path());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, error_code::bad_checkpoint);
  EXPECT_THAT(opened.error().text, HasSubstr((folder.path() / "model.safetensors: ").string()));
  EXPECT_THAT(opened.error().text, HasSubstr(GetParam().text));
}

const std::string eight(8, 'x');
const damaged_case damaged_cases[] = {
    {"NotJson", R"({"a": )", "", "header is not valid JSON"},
    {"Trailing", R"({} x)", "", "header is not valid JSON: text behind its end"},
    {"NotAnObject", R"([1, 2])", "", "the header does not begin with {"},
    {"TensorIsANumber", R"({"a": 3})", "", "header: tensor a: a number where none belongs"},
    {"TensorIsNull", R"({"a": null})", "", "tensor a: null where none belongs"},
    {"TensorIsBool", R"({"a": true})", "", "tensor a: true or false where none belongs"},
    {"TensorIsString", R"({"a": "F32"})", "", "tensor a: a string where none belongs"},
    {"TensorIsArray", R"({"a": [1]})", "", "tensor a: an array where none belongs"},
    {"NestedObject", R"({"a": {"dtype": {}}})", "", "tensor a: an object where none belongs"},
    {"NoOffsets", R"({"a": {"dtype": "F32", "shape": [2]}})", eight,
     "tensor a: expected dtype, shape and data_offsets, each once"},
    {"FieldTwice", R"({"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", eight,
     "each once"},
    {"OneOffset", R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8]}})", eight,
     "data_offsets: expected two numbers"},
    {"NegativeOffset", R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}})", eight,
     "a negative number"},
    {"FractionalShape", R"({"a": {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 8]}})", eight,
     "not an integer"},
    {"Rank", R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,2], "data_offsets": [0, 8]}})", eight,
     "too many dimensions"},
    {"NameTwice",
     R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
     eight, "tensor a: the name comes twice"},
    {"UnknownDtype", R"({"a": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}})", eight,
     "tensor a: unknown dtype F31"},
    {"WrongSize", R"({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}})", eight,
     "tensor a: expected 12 bytes (F32 [3]), found 8"},
    {"Overflow", R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]}})",
     eight, "is too large"},
    {"Backwards", R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})", eight,
     "tensor a: data_offsets [8, 0] run backwards"},
    {"Gap", R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}})", eight,
     "tensor a: expected to begin at byte 0 of the data, found 4 (gap)"},
    {"Overlap",
     R"({"a": {"dtype": "U8", "shape": [6], "data_offsets": [0, 6]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}})",
     eight, "tensor b: expected to begin at byte 6 of the data, found 4 (overlap)"},
    {"Truncated", R"({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}})", eight,
     "the file is truncated: expected 9 bytes of data, found 8"},
    {"Trailer", R"({"a": {"dtype": "U8", "shape": [5], "data_offsets": [0, 5]}})", eight,
     "3 bytes belong to no tensor"},
};
INSTANTIATE_TEST_SUITE_P(Safetensors, Damaged, testing::ValuesIn(damaged_cases),
                         [](const auto& i) { return i.param.name; });

TEST(Safetensors, RefusesAFileThatIsShorterThanItsHeader) {
  const temp_folder folder;
  const auto whole =
      safetensors_bytes(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})", "x");
  folder.write("model.safetensors", whole.substr(0, 20));
  EXPECT_THAT(weights::open(folder.path()).error().text,
              HasSubstr("the file is truncated: expected a header of"));
  folder.write("model.safetensors", whole.substr(0, 5));
  EXPECT_THAT(weights::open(folder.path()).error().text, HasSubstr("5 bytes, too short"));
  folder.write("model.safetensors", "");
  EXPECT_THAT(weights::open(folder.path()).error().text, HasSubstr("the file is empty"));
  folder.write("model.safetensors", std::string(64, '\xff'));
  EXPECT_THAT(weights::open(folder.path()).error().text, HasSubstr("not a safetensors file: header length"));
}

TEST(Safetensors, ListsTensorsOfKnownDtypesThatNoWeightMayHave) {
  const temp_folder folder;
  write_safetensors(folder.path() / "model.safetensors", {{"mask", "I64", {1}, std::string(8, '\0')}});
  const auto opened = weights::open(folder.path());
  ASSERT_TRUE(opened) << opened.error().text;
  const auto* mask = (*opened)->find("mask");
  ASSERT_NE(mask, nullptr);
  EXPECT_EQ(mask->dtype, DType::none);
  EXPECT_EQ(mask->stored_dtype, "I64");
}

TEST(Safetensors, ReadsEscapedNamesEmptyTensorsAndScalars) {
  const temp_folder folder;
  folder.write("model.safetensors",
               safetensors_bytes(R"({"a\u002eb": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
                                    "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]}})",
                                 "xxxx"));
  const auto opened = weights::open(folder.path());
  ASSERT_TRUE(opened) << opened.error().text;
  ASSERT_NE((*opened)->find("a.b"), nullptr);
  EXPECT_TRUE((*opened)->find("a.b")->shape.empty());
  EXPECT_TRUE((*opened)->find("none")->data.empty());
}

TEST(Safetensors, NeverCrashesOnCorruptedBytes) {
  const auto tensors = std::vector{bf16_tensor("a", {2, 2}, {1, 2, 3, 4}), f32_tensor("b", {3}, {1, 2, 3})};
  const auto good = safetensors_bytes(safetensors_header(tensors), tensors[0].bytes + tensors[1].bytes);
  const temp_folder folder;
  std::mt19937 random(99);
  for (int round = 0; round < 2000; ++round) {
    auto bytes = good;
    for (unsigned i = 0; i <= random() % 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    folder.write("model.safetensors", bytes);
    const auto opened = weights::open(folder.path());
    if (opened) {
      for (const auto& [name, view] : (*opened)->tensors()) EXPECT_LE(view.data.size(), bytes.size());
    } else {
      EXPECT_EQ(opened.error().code, error_code::bad_checkpoint);
    }
  }
}

}  // namespace
}  // namespace troupe::checkpoint
