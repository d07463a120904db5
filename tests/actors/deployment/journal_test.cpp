#include "actors/deployment/journal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/temp_folder.hpp"

namespace troupe::deployment {
namespace {

using test::temp_folder;
using testing::HasSubstr;

record committed(std::uint64_t id, const std::string& model, std::uint64_t generation) {
  record r;
  r.what = record::kind::committed;
  r.of.id = id;
  r.of.model = model;
  r.of.wanted = {.checkpoint = "/models/" + model, .max_context = 7, .module_sha256 = "ab\"\n\xc3\xa9"};
  r.generation = generation;
  r.base = "x|0";
  return r;
}

record begun(std::uint64_t id) {
  record r;
  r.of.id = id;
  r.of.model = "fox";
  r.of.course = {verb::unload, true};
  r.of.begun_ms = 1'700'000'000'123;
  r.of.old_generation = 3;
  return r;
}

record ended(std::uint64_t id) {
  record r;
  r.what = record::kind::ended;
  r.of.id = id;
  r.of.state = state::undone;
  r.of.ended_ms = 1'700'000'000'456;
  r.of.new_generation = 3;
  r.of.reason = "non-finite logits behind 50 tokens";
  return r;
}

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

std::vector<std::string> lines_of(const std::vector<record>& records) {
  std::vector<std::string> lines;
  for (const record& r : records) lines.push_back(to_line(r));
  return lines;
}

TEST(Journal, BringsBackWhatWasAppended) {
  temp_folder folder;
  const std::vector<record> all = {begun(1), committed(1, "fox", 4), ended(1)};
  {
    auto made = journal::open(folder.path() / "state");
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_TRUE(made->records.empty());
    for (const record& r : all) ASSERT_TRUE(made->file->append(r));
    EXPECT_EQ(made->file->bytes(), std::filesystem::file_size(made->file->file()));
  }
  const auto again = journal::open(folder.path() / "state");
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(lines_of(again->records), lines_of(all));
  EXPECT_EQ(again->cut_bytes, 0u);
}

// Whatever byte a crash stopped at: all whole records, and only these, and the file can be appended to.
TEST(Journal, LosesNothingButTheRecordThatWasTorn) {
  temp_folder folder;
  const auto state = folder.path() / "state";
  const std::vector<record> all = {begun(1), committed(1, "fox", 4), ended(1)};
  std::vector<std::size_t> ends;
  {
    auto made = journal::open(state);
    ASSERT_TRUE(made);
    ends.push_back(made->file->bytes());
    for (const record& r : all) {
      ASSERT_TRUE(made->file->append(r));
      ends.push_back(made->file->bytes());
    }
  }
  const std::string whole = read(state / "journal");
  for (std::size_t size = ends.front(); size <= whole.size(); ++size) {
    write(state / "journal", whole.substr(0, size));
    std::size_t kept = 0;
    while (kept + 1 < ends.size() && ends[kept + 1] <= size) ++kept;
    {
      auto torn = journal::open(state);
      ASSERT_TRUE(torn) << size << ": " << torn.error().text;
      ASSERT_EQ(torn->records.size(), kept) << size;
      EXPECT_EQ(torn->cut_bytes, size - ends[kept]);
      ASSERT_TRUE(torn->file->append(committed(9, "owl", 1)));
    }
    const auto after = journal::open(state);
    ASSERT_TRUE(after);
    ASSERT_EQ(after->records.size(), kept + 1) << size;
    EXPECT_EQ(after->records.back().of.model, "owl");
  }
}

TEST(Journal, RefusesDamageInItsMiddleAndNamesTheLine) {
  temp_folder folder;
  const auto state = folder.path() / "state";
  {
    auto made = journal::open(state);
    ASSERT_TRUE(made);
    for (const record& r : {begun(1), committed(1, "fox", 4), ended(1)}) ASSERT_TRUE(made->file->append(r));
  }
  std::string bytes = read(state / "journal");
  bytes[bytes.find("/models/fox")] ^= 1;
  write(state / "journal", bytes);
  const auto opened = journal::open(state);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, error_code::bad_config);
  EXPECT_THAT(opened.error().text, HasSubstr("journal:3: a damaged record"));
  EXPECT_EQ(read(state / "journal"), bytes);
}

TEST(Journal, RefusesAFileThatIsNone) {
  temp_folder folder;
  folder.write("journal", "dear diary\n");
  const auto opened = journal::open(folder.path());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, error_code::bad_config);
  EXPECT_THAT(opened.error().text, HasSubstr("troupe journal 1"));
}

TEST(Journal, BelongsToOneServer) {
  temp_folder folder;
  const auto first = journal::open(folder.path());
  ASSERT_TRUE(first);
  const auto second = journal::open(folder.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, error_code::bad_config);
  EXPECT_THAT(second.error().text, HasSubstr("another server"));
}

TEST(Journal, NamesTheFolderThatCannotBeWritten) {
  temp_folder folder;
  folder.write("file", "");
  const auto opened = journal::open(folder.path() / "file" / "state");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, error_code::not_found);
  EXPECT_THAT(opened.error().text, HasSubstr((folder.path() / "file" / "state").string()));
}

TEST(Journal, IsReplacedWholeAndGoesOn) {
  temp_folder folder;
  auto made = journal::open(folder.path());
  ASSERT_TRUE(made);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(made->file->append(begun(1)));
  const std::vector<record> digest = {committed(1, "fox", 4)};
  ASSERT_TRUE(made->file->rewrite(digest));
  ASSERT_TRUE(made->file->append(ended(1)));
  EXPECT_EQ(made->file->bytes(), std::filesystem::file_size(folder.path() / "journal"));
  made->file.reset();
  const auto again = journal::open(folder.path());
  ASSERT_TRUE(again);
  EXPECT_EQ(lines_of(again->records), lines_of({committed(1, "fox", 4), ended(1)}));
}

// Stands for a full disk: the file may not grow beyond what it has.
TEST(Journal, IsAsBeforeWhenARecordCannotBeWritten) {
  temp_folder folder;
  auto made = journal::open(folder.path());
  ASSERT_TRUE(made);
  ASSERT_TRUE(made->file->append(begun(1)));
  const std::string before = read(folder.path() / "journal");
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto former = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{before.size() + 10, old.rlim_max};  // a part of the record still goes in
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto failed = made->file->append(committed(1, "fox", 4));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, former);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, error_code::not_found);
  EXPECT_EQ(read(folder.path() / "journal"), before);
  EXPECT_TRUE(made->file->append(committed(1, "fox", 4)));
}

}  // namespace
}  // namespace troupe::deployment
