#include <elf.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <thread>

#include "kernel/modules/modules.hpp"
#include "kernel/modules/stage.hpp"
#include "kernel/program/native_ops.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::modules {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const fs::path mixtral = TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so";

fs::path test_module(const std::string& name) {
  return fs::path(TEST_MODULES) / (name + ".so");
}

bool is_mapped(const fs::path& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(file.string()) != line.npos) return true;
  return false;
}

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Load : public testing::Test {
 protected:
  store open() {
    auto s = store::open(folder_.path() / "store");
    if (!s) throw std::runtime_error(s.error().text);
    return *s;
  }
  store open_and_trust(const std::string& module) {
    trust_policy policy;
    policy.listed.add({"sha256", sha256_hex(*read_library(test_module(module))), "for this test"});
    return *store::open(folder_.path() / "store", {.trusted = policy});
  }
  std::string load_error(const fs::path& file, error_code code = error_code::bad_module) {
    const auto loaded = open().load(file);
    if (loaded) return "no error";
    EXPECT_EQ(loaded.error().code, code);
    EXPECT_THAT(loaded.error().text, HasSubstr(file.string()));
    return loaded.error().text;
  }
  test::temp_folder folder_;
};

TEST_F(Load, TellsWhatTheModuleIs) {
  const auto loaded = open().load(mixtral);
  ASSERT_TRUE(loaded) << loaded.error().text;
  const auto& m = **loaded;
  EXPECT_EQ(m.name(), "mixtral");
  EXPECT_EQ(m.version(), "1.0.0");
  EXPECT_FALSE(m.summary().empty());
  EXPECT_THAT(m.architectures(), ElementsAre("MixtralForCausalLM"));
  EXPECT_EQ(m.origin(), mixtral);
  EXPECT_EQ(m.sha256().size(), 64u);
  EXPECT_EQ(m.staged_path().filename(), m.sha256() + ".so");
  EXPECT_EQ(m.abi_major(), 1);
  EXPECT_EQ(m.abi_minor(), 1);
  EXPECT_TRUE(m.declared_ops().empty());
  EXPECT_TRUE(m.native_ops()->all().empty());
}

TEST_F(Load, NeverMapsTheLibraryIntoThisProcess) {
  const auto loaded = open().load(mixtral);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ((*loaded)->build("{}").error().code, error_code::bad_checkpoint);
  EXPECT_FALSE(is_mapped((*loaded)->staged_path()));
  EXPECT_FALSE(is_mapped(mixtral));
}

TEST_F(Load, KeepsRunningWhileTheOperatorOverwritesTheFile) {
  const fs::path file = folder_.path() / "mine.so";
  fs::copy_file(test_module("good"), file);
  const auto loaded = open().load(file);
  ASSERT_TRUE(loaded) << loaded.error().text;
  folder_.write("mine.so", "garbage");
  EXPECT_EQ((*loaded)->name(), "table");
  EXPECT_THAT((*loaded)->build("{}").error().text, HasSubstr("emitted no Program"));
}

TEST_F(Load, SharesOneCopyAndRepairsADamagedOne) {
  const auto first = open().load(test_module("good"));
  ASSERT_TRUE(first) << first.error().text;
  const fs::path staged = (*first)->staged_path();
  const auto second = open().load(test_module("good"));
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_EQ((*second)->staged_path(), staged);

  const test::temp_folder other;
  const auto s = store::open(other.path());
  other.write(staged.filename().string(), "damaged");
  const auto repaired = s->load(test_module("good"));
  ASSERT_TRUE(repaired) << repaired.error().text;
  EXPECT_EQ(fs::file_size((*repaired)->staged_path()), fs::file_size(test_module("good")));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(other.path())) ++files;
  EXPECT_EQ(files, 1u) << "no temporary file stays behind";
}

TEST_F(Load, MayBeCalledFromSeveralThreads) {
  const auto s = open();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 4; ++round) {
        const auto loaded = s.load(mixtral);
        ASSERT_TRUE(loaded) << loaded.error().text;
        EXPECT_EQ((*loaded)->build("{}").error().code, error_code::bad_checkpoint);
      }
    });
  for (auto& thread : threads) thread.join();
}

TEST_F(Load, AcceptsANewerMinorVersion) {
  const auto loaded = open().load(test_module("newer_minor"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ((*loaded)->abi_minor(), 99);
}

TEST_F(Load, AcceptsAnOlderMinorVersionAndReadsNothingBehindItsTable) {
  const auto loaded = open().load(test_module("minor_0"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ((*loaded)->abi_minor(), 0);
  EXPECT_TRUE((*loaded)->declared_ops().empty());
}

TEST_F(Load, TellsTheModulesNativeOpsWithoutMappingIt) {
  const auto loaded = open().load(test_module("with_ops"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  ASSERT_EQ((*loaded)->declared_ops().size(), 1u);
  const auto& op = (*loaded)->declared_ops()[0];
  EXPECT_EQ(op.name, "op");
  EXPECT_EQ(op.version, 3u);
  EXPECT_EQ(op.summary, "For tests");
  EXPECT_TRUE(op.has_cuda);
  EXPECT_THAT(op.weights, ElementsAre("w", "bias"));
  EXPECT_THAT(op.states, ElementsAre("sum"));
  EXPECT_FALSE(is_mapped((*loaded)->staged_path()));
}

TEST_F(Load, DoesNotMapNativeOpsThatNobodyTrusts) {
  const auto loaded = open().load(test_module("with_ops"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_FALSE((*loaded)->trust());
  const auto ops = (*loaded)->native_ops();
  ASSERT_FALSE(ops);
  EXPECT_EQ(ops.error().code, error_code::bad_module);
  EXPECT_THAT(ops.error().text, HasSubstr("troupe module trust add " + test_module("with_ops").string()));
  EXPECT_FALSE(is_mapped((*loaded)->staged_path()));
}

TEST_F(Load, KeepsTheLibraryWhileItsNativeOpsAreInUse) {
  auto loaded = open_and_trust("with_ops").load(test_module("with_ops"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  const fs::path staged = (*loaded)->staged_path();
  auto ops = (*loaded)->native_ops();
  ASSERT_TRUE(ops) << ops.error().text;
  loaded = fail(error_code::internal, "let go");
  EXPECT_TRUE(is_mapped(staged));
  EXPECT_NE(ops->find("op", 3), nullptr);
  EXPECT_EQ(ops->find("op", 2), nullptr);
  EXPECT_STREQ(ops->all()[0]->summary, "For tests");
  ops = program::native_ops();
  EXPECT_FALSE(is_mapped(staged));
}

TEST_F(Load, RefusesANativeOpThatIsIncomplete) {
  const auto error_of = [&](const char* variant) { return load_error(test_module(variant)); };
  EXPECT_THAT(error_of("op_small"), HasSubstr("native op 0: its table has 40 bytes, expected at least 104"));
  EXPECT_THAT(error_of("op_without_name"), HasSubstr("native op 0: expected a name"));
  EXPECT_THAT(error_of("op_without_version"), HasSubstr("native op op: version: expected 1 or more"));
  EXPECT_THAT(error_of("op_without_summary"), HasSubstr("native op op: the field summary"));
  EXPECT_THAT(error_of("op_without_shapes"), HasSubstr("the field shapes"));
  EXPECT_THAT(error_of("op_without_cpu"), HasSubstr("the field cpu"));
  EXPECT_THAT(error_of("op_without_output"), HasSubstr("outputs: expected at least 1"));
  EXPECT_THAT(error_of("op_with_null_inputs"), HasSubstr("inputs: expected 1, found null"));
  EXPECT_THAT(error_of("op_with_many_states"), HasSubstr("states: expected at most 32, found 33"));
  EXPECT_THAT(error_of("op_with_bf16_input"),
              HasSubstr("inputs: x: expected dtype TROUPE_F32 or TROUPE_I32, found 2"));
  EXPECT_THAT(error_of("op_with_optional_state"), HasSubstr("states: sum: is_optional: expected 0, found 1"));
  EXPECT_THAT(error_of("op_with_optional_first"), HasSubstr("weights: bias: expected optional ones last"));
  EXPECT_THAT(error_of("op_twice"), HasSubstr("native op op version 3 comes twice"));
}

TEST_F(Load, OpensNativeOpsOfAStagedCopyOnlyIfItIsStillTheSame) {
  const auto first = open().load(test_module("with_ops"));
  ASSERT_TRUE(first) << first.error().text;
  const auto ops = open_native_ops((*first)->staged_path());
  ASSERT_TRUE(ops) << ops.error().text;
  EXPECT_EQ(ops->all().size(), 1u);
  const auto renamed = folder_.write("0123.so", read(test_module("with_ops")));
  const auto refused = open_native_ops(renamed);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_module);
  EXPECT_THAT(refused.error().text, HasSubstr("its content is not the one that it is named after"));
}

TEST_F(Load, LoadsAModuleInPlainC) {
  const auto loaded = open().load(test_module("minimal_c"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_THAT((*loaded)->architectures(), ElementsAre("MinimalForCausalLM"));
}

TEST_F(Load, LoadsModulesBuiltAgainstEveryReleasedHeader) {
  for (const int minor : {0, 1}) {
    const auto loaded = open().load(test_module("minimal_c_1_" + std::to_string(minor)));
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ((*loaded)->abi_major(), 1);
    EXPECT_EQ((*loaded)->abi_minor(), minor);
    const auto program = (*loaded)->build(R"({"vocab_size": 32, "hidden_size": 8})");
    ASSERT_TRUE(program) << program.error().text;
    EXPECT_EQ((*program)->ops()->size(), 3u);
    EXPECT_THAT((*loaded)->build("{}").error().text, HasSubstr("vocab_size: expected a number above 0"));
  }
}

TEST_F(Load, SaysWhatToRebuildForAnotherMajorVersion) {
  EXPECT_THAT(load_error(test_module("wrong_major")),
              HasSubstr("built for module interface 99.1, this Troupe speaks 1.1: rebuild the module"));
}

TEST_F(Load, RefusesAnIncompleteTable) {
  EXPECT_THAT(load_error(test_module("small_table")),
              HasSubstr("its table has 16 bytes, expected at least 48:"));
  EXPECT_THAT(load_error(test_module("null_table")), HasSubstr("troupe_module_entry answered null"));
  EXPECT_THAT(load_error(test_module("no_name")), HasSubstr("the field name of its table is empty"));
  EXPECT_THAT(load_error(test_module("no_version")), HasSubstr("the field version"));
  EXPECT_THAT(load_error(test_module("no_summary")), HasSubstr("the field summary"));
  EXPECT_THAT(load_error(test_module("no_architectures")), HasSubstr("the field architectures"));
  EXPECT_THAT(load_error(test_module("no_build")), HasSubstr("the field build"));
}

TEST_F(Load, RefusesWhatIsNoModule) {
  EXPECT_THAT(load_error(test_module("no_entry")), HasSubstr("it does not export troupe_module_entry"));
  EXPECT_THAT(load_error(folder_.write("text.so", "hello")),
              HasSubstr("expected an ELF shared library, found 5 other bytes"));
  EXPECT_THAT(load_error(folder_.write("empty.so", "")),
              HasSubstr("expected an ELF shared library, found 0 other bytes"));
  EXPECT_THAT(load_error(folder_.path() / "none.so", error_code::not_found), HasSubstr("No such file"));
  EXPECT_THAT(load_error(folder_.path()), HasSubstr("a folder"));
}

TEST_F(Load, RefusesATruncatedLibraryAndAnotherMachine) {
  std::string bytes = read(test_module("good"));
  EXPECT_THAT(load_error(folder_.write("cut.so", bytes.substr(0, 200))),
              HasSubstr("cannot be loaded: the file is truncated: 200 bytes end within the program headers"));
  bytes[18] = 8;  // e_machine: MIPS
  bytes[19] = 0;
  EXPECT_THAT(load_error(folder_.write("mips.so", bytes)), HasSubstr("built for another machine"));
}

// The end of the last segment that is mapped.
std::size_t loaded_bytes(const std::string& bytes) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::size_t end = 0;
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, bytes.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD) end = std::max<std::size_t>(end, segment.p_offset + segment.p_filesz);
  }
  return end;
}

TEST_F(Load, SurvivesALibraryThatIsCutAnywhere) {
  const std::string bytes = read(test_module("good"));
  const std::size_t needed = loaded_bytes(bytes);
  ASSERT_GT(needed, 4096u);
  ASSERT_LT(needed, bytes.size());
  std::vector<std::size_t> cuts = {needed - 1, needed, bytes.size() - 1};
  for (std::size_t cut = 0; cut < bytes.size(); cut += 211) cuts.push_back(cut);
  const auto s = open();
  for (const std::size_t cut : cuts) {
    const auto loaded = s.load(folder_.write("cut.so", bytes.substr(0, cut)));
    ASSERT_EQ(loaded.has_value(), cut >= needed) << cut << " of " << bytes.size();
    if (!loaded) {
      EXPECT_EQ(loaded.error().code, error_code::bad_module);
    }
  }
}

TEST_F(Load, RefusesSegmentsBeyondTheFile) {
  const std::string bytes = read(test_module("good"));
  const auto patched = [&](std::size_t at, std::uint64_t value, std::size_t size) {
    std::string copy = bytes;
    std::memcpy(copy.data() + at, &value, size);
    return folder_.write("patched.so", copy);
  };
  constexpr std::uint64_t huge = ~std::uint64_t{0};
  EXPECT_THAT(load_error(patched(offsetof(Elf64_Ehdr, e_phoff), huge, 8)),
              HasSubstr("within the program headers"));
  EXPECT_THAT(load_error(patched(offsetof(Elf64_Ehdr, e_phentsize), 8, 2)),
              HasSubstr("program headers are not those"));
  EXPECT_THAT(load_error(patched(offsetof(Elf64_Ehdr, e_phnum), 0, 2)),
              HasSubstr("program headers are not those"));
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::size_t load = header.e_phoff;  // the first PT_LOAD
  for (Elf64_Word type = PT_NULL; type != PT_LOAD; load += sizeof(Elf64_Phdr)) {
    std::memcpy(&type, bytes.data() + load, sizeof type);
    if (type == PT_LOAD) break;
  }
  EXPECT_THAT(load_error(patched(load + offsetof(Elf64_Phdr, p_offset), huge, 8)),
              HasSubstr("is truncated: segment"));
  EXPECT_THAT(load_error(patched(load + offsetof(Elf64_Phdr, p_filesz), huge, 8)),
              HasSubstr("is truncated: segment"));
}

TEST(Store, IsForItsUserAlone) {
  const test::temp_folder folder;
  for (const char* name : {"store", "with/parents/and/slash/"}) {
    const auto s = store::open(folder.path() / name);
    ASSERT_TRUE(s) << s.error().text;
    struct stat info = {};
    ASSERT_EQ(::stat(s->folder().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
    EXPECT_TRUE(store::open(s->folder())) << "it may be opened again";
  }
}

TEST(Store, RefusesAFolderToWhichOthersMayWrite) {
  for (const mode_t mode : {0720u, 0702u, 0777u}) {
    const test::temp_folder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), mode), 0);
    const auto s = store::open(folder.path());
    ASSERT_FALSE(s) << std::oct << mode;
    EXPECT_EQ(s.error().code, error_code::bad_config);
    EXPECT_THAT(s.error().text, HasSubstr("chmod go-w " + folder.path().string()));
  }
}

TEST(Store, RefusesAFolderOfAnotherUser) {
  const test::temp_folder folder;
  const bool is_root = ::geteuid() == 0;
  if (is_root) {
    ASSERT_EQ(::chown(folder.path().c_str(), 12345, 12345), 0);
  }
  const auto s = store::open(is_root ? folder.path() : fs::path("/"));
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, error_code::bad_config);
  EXPECT_THAT(s.error().text, HasSubstr("name another folder in modules.store"));
}

TEST(Store, SaysWhyItsFolderCannotBe) {
  const test::temp_folder folder;
  folder.write("file", "x");
  const auto s = store::open(folder.path() / "file" / "below");
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, error_code::not_found);
  EXPECT_THAT(s.error().text, HasSubstr("the module store"));
}

TEST(Sha256, IsTheOneOfTheStandard) {
  const std::string abc = "abc";
  EXPECT_EQ(sha256_hex(abc), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace troupe::modules
