#include "kernel/modules/trust.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "kernel/modules/signature.hpp"
#include "kernel/modules/stage.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::modules {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A key that anybody could have made: it only ever signs in this test.
constexpr const char* private_key =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
// RFC 8032, 7.1, test 1: the public key of that secret.
constexpr const char* public_digits = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

const std::string digest(64, 'a');

class Trust : public testing::Test {
 protected:
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  fs::path key() const { return folder_.write("key.pem", private_key); }
  result<std::string> judge(const trust_list& listed) const {
    return trust_policy{.shipped = file("shipped"), .listed = listed, .list = file("list")}.judge(
        file("x.so"), digest);
  }
  test::temp_folder folder_;
};

TEST_F(Trust, RefusesWhatNobodyKnowsAndSaysWhatToDo) {
  const auto answer = judge({});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, error_code::bad_module);
  EXPECT_THAT(answer.error().text, HasSubstr("brings native ops"));
  EXPECT_THAT(answer.error().text, HasSubstr("troupe module trust add " + file("x.so").string()));
}

TEST_F(Trust, KnowsAListedDigest) {
  trust_list list;
  list.add({"sha256", digest, "mine"});
  const auto answer = judge(list);
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(*answer, fmt::format("its SHA-256 is listed in {} (mine)", file("list").string()));
}

TEST_F(Trust, KeepsItsNoteUntilAnotherIsGiven) {
  trust_list list;
  EXPECT_TRUE(list.add({"ed25519", digest, "the author"}));
  EXPECT_FALSE(list.add({"ed25519", digest, ""}));
  EXPECT_EQ(list.find("ed25519", digest)->note, "the author");
  EXPECT_FALSE(list.add({"ed25519", digest, "another"}));
  EXPECT_EQ(list.find("ed25519", digest)->note, "another");
}

TEST_F(Trust, DoesNotTakeAKeyForADigest) {
  trust_list list;
  list.add({"ed25519", digest, ""});
  EXPECT_FALSE(judge(list));
}

TEST_F(Trust, KnowsASignatureByAListedKey) {
  const auto made = sign(key(), digest);
  ASSERT_TRUE(made) << made.error().text;
  ASSERT_TRUE(add_signature(signature_file(file("x.so")), *made));
  trust_list list;
  list.add({"ed25519", made->key, "the author"});
  const auto answer = judge(list);
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_THAT(*answer, HasSubstr("signed by key " + made->key));
  EXPECT_THAT(judge({}).error().text, HasSubstr("troupe module trust add --key " + made->key));
}

TEST_F(Trust, DoesNotKnowTheSignatureOfAnotherFile) {
  const auto made = sign(key(), std::string(64, 'b'));
  ASSERT_TRUE(made) << made.error().text;
  ASSERT_TRUE(add_signature(signature_file(file("x.so")), *made));
  trust_list list;
  list.add({"ed25519", made->key, ""});
  EXPECT_FALSE(judge(list));
}

TEST_F(Trust, KnowsWhatCameWithTroupeInItsOwnFolderOnly) {
  const fs::path library = TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so";
  const auto sha256 = sha256_hex(*read_library(library));
  const auto answer = trust_shipped().judge(library, sha256);
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(*answer, "came with this Troupe");
  EXPECT_FALSE(trust_shipped().judge(library, digest)) << "another file under its name";

  folder_.write("x.so", "");
  folder_.write("x.so.sha256", digest + "  x.so\n");
  EXPECT_FALSE(trust_shipped().judge(file("x.so"), digest)) << "anybody can write such a file";
}

TEST_F(Trust, KeepsTheListInAFile) {
  EXPECT_TRUE(trust_list::load(file("none"))->entries().empty());
  trust_list list;
  EXPECT_TRUE(list.add({"sha256", digest, "a note of several words"}));
  EXPECT_TRUE(list.add({"ed25519", std::string(64, 'b'), ""}));
  EXPECT_FALSE(list.add({"sha256", digest, "another note\nwith a line break"}));
  ASSERT_TRUE(list.save(file("new/list")));
  const auto read = trust_list::load(file("new/list"));
  ASSERT_TRUE(read) << read.error().text;
  ASSERT_EQ(read->entries().size(), 2u);
  EXPECT_EQ(read->find("sha256", digest)->note, "another note with a line break");
  EXPECT_NE(read->find("ed25519", std::string(64, 'b')), nullptr);
}

TEST_F(Trust, ReadsItsOwnListWhateverTheUmask) {
  const mode_t before = ::umask(0);
  trust_list list;
  list.add({"sha256", digest, "mine"});
  const auto written = list.save(file("list"));
  ::umask(before);
  ASSERT_TRUE(written) << written.error().text;
  EXPECT_TRUE(trust_list::load(file("list")));
}

TEST_F(Trust, RemovesByTheFirstDigitsIfTheyMeanOne) {
  trust_list list;
  list.add({"sha256", std::string(64, 'a'), ""});
  list.add({"sha256", std::string(32, 'a') + std::string(32, 'b'), ""});
  EXPECT_FALSE(list.remove("aaaaaaaa")) << "two begin so";
  EXPECT_FALSE(list.remove("")) << "too short";
  EXPECT_FALSE(list.remove("cccccccc"));
  EXPECT_TRUE(list.remove(std::string(32, 'a') + "b"));
  EXPECT_EQ(list.entries().size(), 1u);
}

TEST_F(Trust, RefusesAListThatIsDamagedOrOpenToOthers) {
  const auto bad = trust_list::load(folder_.write("bad", "# fine\n\nsha256 12345\n"));
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().text, HasSubstr("bad:3: expected sha256 or ed25519, 64 lowercase hex digits"));
  const auto open = folder_.write("open", "sha256 " + digest + "\n");
  ::chmod(open.c_str(), 0666);
  EXPECT_THAT(trust_list::load(open).error().text, HasSubstr("others may write to this list"));
}

TEST(Signature, IsTheOneOfTheStandard) {
  const test::temp_folder folder;
  const auto key = folder.write("key.pem", private_key);
  EXPECT_EQ(*read_public_key(key), public_digits);
  const auto made = sign(key, digest);
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_EQ(made->key, public_digits);
  EXPECT_TRUE(is_valid(*made, digest));
  EXPECT_FALSE(is_valid(*made, std::string(64, 'b')));
  signature changed = *made;
  changed.bytes[0] = changed.bytes[0] == '0' ? '1' : '0';
  EXPECT_FALSE(is_valid(changed, digest));
  EXPECT_FALSE(is_valid({"zz", "zz"}, digest));
}

TEST(Signature, StandsBesideThoseOfOthers) {
  const test::temp_folder folder;
  const auto file = folder.path() / "x.so.sig";
  const auto made = sign(folder.write("key.pem", private_key), digest);
  ASSERT_TRUE(made);
  ASSERT_TRUE(add_signature(file, {std::string(64, 'c'), std::string(128, 'd')}));
  ASSERT_TRUE(add_signature(file, *made));
  ASSERT_TRUE(add_signature(file, *made));
  const auto all = read_signatures(file);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), 2u);
}

TEST(Signature, SaysWhatIsWrongWithAKeyOrAFile) {
  const test::temp_folder folder;
  EXPECT_THAT(sign(folder.write("text.pem", "no key"), digest).error().text,
              HasSubstr("expected an Ed25519 private key in PEM without a passphrase, found none"));
  EXPECT_EQ(sign(folder.path() / "missing.pem", digest).error().code, error_code::not_found);
  EXPECT_THAT(read_signatures(folder.write("bad.sig", "rsa 12 34\n")).error().text,
              HasSubstr("bad.sig:1: expected ed25519"));
}

}  // namespace
}  // namespace troupe::modules
