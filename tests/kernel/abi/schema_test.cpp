// The current schemas against the released ones: by FlatBuffers' own conformance check, which `flatc --conform` runs too, and
// by what that leaves out: names, `required`, the file identifier, the root.
#include <flatbuffers/idl.h>
#include <gmock/gmock.h>

#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

const std::string current_folder = TROUPE_SOURCE_DIR "/schemas";
const std::string releases = TROUPE_SOURCE_DIR "/tests/kernel/abi/released/";
const std::string first_release = releases + "1.0";

std::string read(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

std::unique_ptr<flatbuffers::Parser> parse(const std::string& text, const std::string& folder) {
  auto parser = std::make_unique<flatbuffers::Parser>();
  const char* includes[] = {folder.c_str(), nullptr};
  EXPECT_TRUE(parser->Parse(text.c_str(), includes, (folder + "/schema.fbs").c_str())) << parser->error_;
  return parser;
}

void compare_names(const flatbuffers::Parser& released, const flatbuffers::Parser& current,
                   std::vector<std::string>& out) {
  for (const auto* type : released.structs_.vec) {
    const auto* now = current.structs_.Lookup(type->defined_namespace->GetFullyQualifiedName(type->name));
    if (now == nullptr) {
      out.push_back("gone: " + type->name);
      continue;
    }
    for (const auto* field : type->fields.vec) {
      const auto* same = now->fields.Lookup(field->name);
      if (same == nullptr)
        out.push_back("gone: " + type->name + "." + field->name);
      else if (same->IsRequired() != field->IsRequired())
        out.push_back("required: " + type->name + "." + field->name);
    }
    for (const auto* field : now->fields.vec)
      if (field->IsRequired() && type->fields.Lookup(field->name) == nullptr)
        out.push_back("new and required: " + type->name + "." + field->name);
  }
  for (const auto* type : released.enums_.vec) {
    const auto* now = current.enums_.Lookup(type->defined_namespace->GetFullyQualifiedName(type->name));
    for (const auto* value : type->Vals())
      if (now == nullptr || now->Lookup(value->name) == nullptr)
        out.push_back("gone: " + type->name + "." + value->name);
  }
}

// What would break whoever holds the released schema; empty if nothing does.
std::vector<std::string> breaks(const std::string& released_text, const std::string& folder_of_released,
                                const std::string& current_text, const std::string& folder_of_current) {
  const auto released = parse(released_text, folder_of_released);
  const auto current = parse(current_text, folder_of_current);
  std::vector<std::string> out;
  if (auto problem = current->ConformTo(*released); !problem.empty()) out.push_back(std::move(problem));
  compare_names(*released, *current, out);
  if (released->file_identifier_ != current->file_identifier_) out.emplace_back("file_identifier");
  const auto root = [](const auto& p) { return p->root_struct_def_ ? p->root_struct_def_->name : ""; };
  if (root(released) != root(current)) out.emplace_back("root_type");
  return out;
}

class Released : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Released, SchemaIsStillUnderstood) {
  const auto& [release, file] = GetParam();
  const std::string folder = releases + release;
  EXPECT_THAT(breaks(read(folder + "/" + file), folder, read(current_folder + "/" + file), current_folder),
              IsEmpty())
      << "schemas only grow: see the rules in schemas/README.md";
}

INSTANTIATE_TEST_SUITE_P(Schemas, Released,
                         testing::Combine(testing::Values("1.0", "1.1"),
                                          testing::Values("program.fbs", "client.fbs", "common.fbs")),
                         [](const auto& one) {
                           const std::string release = std::get<0>(one.param);
                           const std::string file = std::get<1>(one.param);
                           return file.substr(0, file.find('.')) + "_" + release.substr(0, 1) + "_" +
                                  release.substr(2);
                         });

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

std::vector<std::string> breaks_of(const std::string& from, const std::string& to) {
  const auto text = read(first_release + "/program.fbs");
  return breaks(text, first_release, replaced(text, from, to), first_release);
}

TEST(SchemaGuard, LetsASchemaGrow) {
  EXPECT_THAT(breaks_of("  probes: [Probe];\n", "  probes: [Probe];\n  remark: string;\n"), IsEmpty());
  EXPECT_THAT(breaks_of("select_rows = 9 ", "select_rows = 9, mul = 10 "), IsEmpty());
  EXPECT_THAT(breaks_of("RouterAttrs, ExpertsAttrs }", "RouterAttrs, ExpertsAttrs, Probe }"), IsEmpty());
}

TEST(SchemaGuard, NoticesEveryBreak) {
  EXPECT_THAT(breaks_of("vocabulary: uint;", "vocabulary: ulong;"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("  hidden: uint;", "  first: uint;\n  hidden: uint;"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("bos_id: int = -1;", "bos_id: int = 0;"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("rope = 5,", "rope = 15,"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("{ NormAttrs, RopeAttrs", "{ RopeAttrs, NormAttrs"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("enum DType : ubyte", "enum DType : ushort"), Not(IsEmpty()));
  EXPECT_THAT(breaks_of("  probes: [Probe];\n", ""), ElementsAre("gone: Program.probes"));
  EXPECT_THAT(breaks_of("select_rows = 9 ", "rows = 9 "), ElementsAre("gone: OpKind.select_rows"));
  EXPECT_THAT(breaks_of("  scope: string;", "  scope: string (required);"),
              ElementsAre("required: Op.scope"));
  EXPECT_THAT(breaks_of("  probes: [Probe];", "  probes: [Probe];\n  remark: string (required);"),
              ElementsAre("new and required: Program.remark"));
  EXPECT_THAT(breaks_of("\"TRPG\"", "\"TRPH\""), ElementsAre("file_identifier"));
  EXPECT_THAT(breaks_of("root_type Program;", "root_type Facts;"), ElementsAre("root_type"));
}

}  // namespace
}  // namespace troupe
