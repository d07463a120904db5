// Versions that must not get through, and those that get through and are taken back: streams go on, the reason is told and kept.
#include <algorithm>
#include <fstream>

#include "tests/live/live_server.hpp"

namespace troupe::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

// A checkpoint like the demo's, whose weights may be changed.
fs::path copied(const fs::path& folder) {
  fs::create_directories(folder);
  for (const auto& file : fs::directory_iterator(demo_model))
    fs::copy(file.path(), folder / file.path().filename());
  return folder;
}

void overwrite(const fs::path& file, std::streamoff from_end, std::size_t bytes, char with) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(-from_end, std::ios::end);
  const std::string filler(bytes, with);
  f.write(filler.data(), static_cast<std::streamsize>(filler.size()));
}

class BadCandidate : public Live {
 protected:
  // The streams notice nothing, and the history keeps why.
  template <class What>
  void expect_refused(const What& what, error_code code, const std::string& words, const std::string& state) {
    auto streams = start();
    const auto why = refusal(what);
    EXPECT_EQ(why.code(), code) << why.what();
    EXPECT_THAT(why.what(), HasSubstr(words));
    expect_undisturbed(streams);
    EXPECT_EQ(last().state, state);
    EXPECT_THAT(last().reason, HasSubstr(words));
    EXPECT_EQ(fox().generation, 1u);
    EXPECT_EQ(fox().module, "mixtral 1.0.0");
  }
  void expect_deploy_refused(const fs::path& folder, error_code code, const std::string& words) {
    expect_refused([&] { server.deploy("fox", folder.string()); }, code, words, "refused");
  }
};

TEST_F(BadCandidate, ThatEmitsNoNumbersAfterAWhileIsTakenBack) {
  client::swap_options wanted;
  wanted.probation = 1min;
  expect_refused([&] { server.swap("fox", version("not_finite_later"), wanted); }, error_code::conflict,
                 "non-finite logits", "undone");
}

TEST_F(BadCandidate, ThatSlowsDownIsTakenBack) {
  client::swap_options wanted;
  wanted.probation = 5min;
  expect_refused([&] { server.swap("fox", version("slow_later"), wanted); }, error_code::conflict,
                 "times as long", "undone");
}

TEST_F(BadCandidate, ThatIsNoModuleIsRefused) {
  const auto file = scratch.path() / "garbage.so";
  std::ofstream(file) << "not a library";
  expect_refused([&] { server.swap("fox", file.string()); }, error_code::bad_module, "garbage.so", "refused");
}

TEST_F(BadCandidate, ThatServesAnotherArchitectureIsRefused) {
  expect_refused([&] { server.swap("fox", TROUPE_BINARY_DIR "/lib/troupe/modules/dbrx.so"); },
                 error_code::unknown_architecture, "MixtralForCausalLM", "refused");
}

TEST_F(BadCandidate, WithAMissingShardIsRefused) {
  const auto folder = copied(scratch.path() / "shard");
  fs::remove(folder / "model.safetensors");
  expect_deploy_refused(folder, error_code::not_found, "shard");
}

TEST_F(BadCandidate, WithATruncatedFileIsRefused) {
  const auto folder = copied(scratch.path() / "cut");
  fs::resize_file(folder / "model.safetensors", fs::file_size(folder / "model.safetensors") / 2);
  expect_deploy_refused(folder, error_code::bad_checkpoint, "model.safetensors");
}

TEST_F(BadCandidate, WithADamagedTensorIsRefused) {
  const auto folder = copied(scratch.path() / "damaged");
  overwrite(folder / "model.safetensors", 512, 512, '\xff');  // bf16: no numbers
  expect_deploy_refused(folder, error_code::bad_checkpoint, "on a probe prompt the logit of token");
}

TEST_F(BadCandidate, WithAnotherVocabularyIsRefused) {
  expect_deploy_refused(recurrent_demo_model, error_code::bad_checkpoint, "vocabulary");
}

TEST_F(BadCandidate, WithoutRoomIsRefused) {
  const auto folder = copied(scratch.path() / "huge");
  // A sparse shard of more than any memory.
  std::ofstream(folder / "model.safetensors", std::ios::trunc) << "";
  const std::string head =
      R"({"x":{"dtype":"BF16","shape":[4398046511104],"data_offsets":[0,8796093022208]}})";
  std::ofstream out(folder / "model.safetensors", std::ios::binary);
  const std::uint64_t bytes = head.size();
  out.write(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  out << head;
  out.close();
  std::error_code problem;
  fs::resize_file(folder / "model.safetensors", 8 + bytes + 8796093022208ULL, problem);
  if (problem) GTEST_SKIP() << "this file system has no files that large: " << problem.message();
  expect_deploy_refused(folder, error_code::no_room, "of memory are available");
}

}  // namespace
}  // namespace troupe::test
