// What message<T>::adopt_untrusted relies on.
#include <flatbuffers/idl.h>
#include <flatbuffers/util.h>
#include <gtest/gtest.h>

#include <string>

namespace {

TEST(ClientSchema, HasNoVectorOfEightByteElements) {
  const std::string folder = TROUPE_SOURCE_DIR "/schemas/";
  std::string source;
  ASSERT_TRUE(flatbuffers::LoadFile((folder + "client.fbs").c_str(), false, &source));
  flatbuffers::Parser parser;
  const char* includes[] = {folder.c_str(), nullptr};
  ASSERT_TRUE(parser.Parse(source.c_str(), includes)) << parser.error_;
  int vectors = 0;
  for (const auto* table : parser.structs_.vec)
    for (const auto* field : table->fields.vec) {
      const auto& type = field->value.type;
      if (type.base_type != flatbuffers::BASE_TYPE_VECTOR) continue;
      ++vectors;
      EXPECT_LE(flatbuffers::InlineAlignment(type.VectorType()), 4u) << table->name << "." << field->name;
    }
  EXPECT_GT(vectors, 5);
}

}  // namespace
