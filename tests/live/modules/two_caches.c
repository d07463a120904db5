/* two_caches: see mixtral_versions.cpp */
extern const int troupe_test_version;
const int troupe_test_version = 2;
