// `troupe module check` of modules that were built with the address sanitizer.
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/cli/process.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::testing {
namespace {

using ::testing::HasSubstr;

class SanitizedModule : public ::testing::Test {
 protected:
  std::string config(const std::string& fault) {
    return folder_
        .write("config.json",
               R"({"architectures": ["TinyForCausalLM"], "hidden_size": 16, "context": 64, "fault": ")" +
                   fault + "\"}")
        .string();
  }
  outcome troupe(const std::vector<std::string>& words) {
    return run_troupe(words, "", {{"XDG_CONFIG_HOME", folder_.path().string()}});
  }
  outcome check(const std::string& fault) {
    EXPECT_EQ(troupe({"module", "trust", "add", FAULTY_ASAN_MODULE}).status, 0);
    return troupe({"module", "check", "--address-sanitizer", FAULTY_ASAN_MODULE, "--config", config(fault)});
  }
  test::temp_folder folder_;
};

TEST_F(SanitizedModule, PassesIfItKeepsTheRules) {
  const auto o = check("none");
  EXPECT_EQ(o.status, 0) << o.out << o.err;
  EXPECT_THAT(o.out, HasSubstr("lowered for a sanitizer"));
}

TEST_F(SanitizedModule, FailsWhereAnOpOverrunsItsOwnHeap) {
  const auto o = check("overruns_its_heap");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.out,
              HasSubstr("op 1 (native overruns_its_heap, layers.0): AddressSanitizer: heap-buffer-overflow"));
  EXPECT_THAT(o.err, HasSubstr("READ of size 4")) << "the whole report is on stderr";
}

TEST_F(SanitizedModule, NeedsTheRuntimeItWasBuiltWith) {
  std::ifstream in(FAULTY_ASAN_MODULE, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::string name = "libasan.so.";
  const auto at = bytes.find(name);
  ASSERT_NE(at, std::string::npos);
  bytes[at + name.size()] = '0';
  const auto other = folder_.write("other.so", bytes).string();
  const auto o = troupe({"module", "check", "--address-sanitizer", other, "--config", config("none")});
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.err, HasSubstr("other.so: was built with the address sanitizer, whose runtime libasan.so.0"));
}

// The name of the runtime in the file is not enough: it would lower the walls for whoever writes it.
TEST_F(SanitizedModule, LowersNoWallsUnlessToldSo) {
  const auto o = troupe({"module", "check", FAULTY_ASAN_MODULE, "--config", config("none")});
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.out + o.err, HasSubstr("libasan.so"));
  EXPECT_THAT(o.out + o.err, HasSubstr("--address-sanitizer"));
}

TEST_F(SanitizedModule, IsExpectedIfAskedFor) {
  const auto plain = std::string(TROUPE_BINARY_DIR) + "/lib/troupe/modules/mixtral.so";
  const auto o = troupe({"module", "check", "--address-sanitizer", plain});
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.err, HasSubstr("mixtral.so: expected a module that is built with -fsanitize=address"));
  EXPECT_THAT(troupe({"module", "check", "--address-sanitizer", "/no/such.so"}).err,
              HasSubstr("/no/such.so: no such file"));
}

}  // namespace
}  // namespace troupe::testing
