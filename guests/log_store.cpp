// SPDX-License-Identifier: MIT
//
// A log-structured key-value store: every put appends a record to a segment of the log and points
// the index at it; when segments run out, the one with the least live data is compacted: its live
// records are appended again and it is free.
//
// Each vCPU has a store of its own with a share of the keys. Every record that is read or compacted
// is checked; after each round each key's record must be where the index says, be of the version
// that the index says, bear its checksum, and the live data must add up.
#include <algorithm>
#include <bit>
#include <cstring>

#include "random.hpp"
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"keys", "200000", "number of keys", 1, std::uint64_t{1} << 32},
    Parameter{"value_size", "256", "largest value in bytes; values are between half of it and all",
              16, 16384},
    Parameter{"segment", "256K", "bytes of a segment of the log", 256 << 10, 1 << 30},
    Parameter{"operations", "200000", "puts and gets in a round, by all vCPUs together", 1,
              std::uint64_t{1} << 40},
    Parameter{"read_share", "20", "percent of the operations that are gets", 0, 100},
    Parameter{"seed", "1", "start of the random numbers", 0, UINT64_MAX},
};

// Where the live record of a key is, in words of the store's log.
struct Entry {
    std::uint32_t word;
    std::uint32_t version;  // 0: the key was never put
};

struct Header {
    std::uint32_t key;
    std::uint32_t version;
    std::uint64_t checksum;
};
constexpr std::uint64_t header_words = sizeof(Header) / sizeof(std::uint64_t);

struct Segment {
    std::uint32_t filled;  // words
    std::uint32_t live;    // words of records that the index points at
};

constinit std::uint64_t keys = 0;
constinit std::uint64_t value_words = 0;
constinit std::uint64_t segment_words = 0;
constinit std::uint64_t operations = 0;
constinit std::uint64_t read_share = 0;
constinit std::uint64_t seed = 0;

// Values differ in length from key to key and from version to version.
std::uint64_t length_of(std::uint64_t key, std::uint64_t version) {
    const std::uint64_t least = (value_words + 1) / 2;
    return least + multiply_high(mix64(key << 32 ^ version), value_words - least + 1);
}

std::uint64_t value_word(std::uint64_t key, std::uint64_t version, std::uint64_t i) {
    return mix64((key << 32 ^ version) + i * 0xd1342543de82ef95);
}

std::uint64_t checksum(const std::uint64_t* words, std::uint64_t count) {
    std::uint64_t sum = count;
    for (std::uint64_t i = 0; i < count; ++i) {
        sum = std::rotl(sum, 9) ^ words[i];
        sum *= 0x9e3779b97f4a7c15;
    }
    return sum;
}

class alignas(64) Store {
  public:
    void plan(std::uint64_t key_count) {
        key_count_ = key_count;
        const std::uint64_t most_words = header_words + value_words;
        // Room for all records at their largest in three quarters of the segments; what is left at
        // the end of a segment, where no record fits, is not counted. The rest keeps compaction
        // from running all the time.
        const std::uint64_t per_segment = segment_words - most_words;
        segment_count_ = 3 + (key_count * most_words * 4 / 3 + per_segment - 1) / per_segment;
        if (segment_count_ * segment_words > UINT32_MAX) {
            refuse("keys and value_size need a log of more than 32 GiB on a vCPU; lower them");
        }
        index_ = allocate<Entry>(key_count);
        segments_ = allocate<Segment>(segment_count_);
        log_ = allocate<std::uint64_t>(segment_count_ * segment_words);
    }

    void start() {
        free_ = segment_count_ - 1;  // all but the head, which is segment 0
        for (std::uint64_t key = 0; key < key_count_; ++key) {
            put(key);
        }
    }

    void put(std::uint64_t key) {
        Entry& entry = index_[key];
        const std::uint32_t version = entry.version + 1 == 0 ? 1 : entry.version + 1;
        const std::uint64_t length = length_of(key, version);
        // Making room may move the old record of this very key.
        make_room(header_words + length);
        if (entry.version != 0) {
            const std::uint64_t old = header_words + length_of(key, entry.version);
            segments_[entry.word / segment_words].live -= static_cast<std::uint32_t>(old);
        }
        std::uint64_t* const record = append(entry, header_words + length);
        std::uint64_t* const value = record + header_words;
        for (std::uint64_t i = 0; i < length; ++i) {
            value[i] = value_word(key, version, i);
        }
        entry.version = version;
        const Header header = {static_cast<std::uint32_t>(key), version, checksum(value, length)};
        std::memcpy(record, &header, sizeof header);
    }

    void get(std::uint64_t key) { check_record(key, index_[key]); }

    void check() {
        std::uint64_t live = 0;
        for (std::uint64_t key = 0; key < key_count_; ++key) {
            check_record(key, index_[key]);
            live += header_words + length_of(key, index_[key].version);
        }
        for (std::uint64_t i = 0; i < segment_count_; ++i) {
            live -= segments_[i].live;
        }
        if (live != 0) {
            fail("the segments' live data does not add up to the records of all keys");
        }
    }

    std::uint64_t page_writes() const { return page_writes_; }

  private:
    // The record of `key`, which must be as the index says.
    const std::uint64_t* check_record(std::uint64_t key, const Entry& entry) const {
        const std::uint64_t length = length_of(key, entry.version);
        if (entry.version == 0 || entry.word >= segment_count_ * segment_words ||
            entry.word % segment_words + header_words + length > segment_words) {
            fail("the index entry of key ", key, " is broken");
        }
        const std::uint64_t* const record = log_ + entry.word;
        Header header;
        std::memcpy(&header, record, sizeof header);
        if (header.key != key || header.version != entry.version) {
            fail("key ", key, " should have version ", entry.version, ", but its record is key ",
                 header.key, " version ", header.version);
        }
        if (header.checksum != checksum(record + header_words, length)) {
            fail("the value of key ", key, " does not match its checksum");
        }
        return record;
    }

    // Afterwards a record of so many words fits into the head, and a free segment is left for
    // compaction.
    void make_room(std::uint64_t words) {
        open_head(words);
        while (free_ < 2) {
            compact(emptiest_segment());
            open_head(words);
        }
    }

    void open_head(std::uint64_t words) {
        if (segments_[head_].filled + words <= segment_words) {
            return;
        }
        if (free_ == 0) {
            fail("no free segment is left, which compaction should not let happen");
        }
        do {
            head_ = (head_ + 1) % segment_count_;
        } while (segments_[head_].filled != 0);
        --free_;
    }

    std::uint64_t emptiest_segment() const {
        std::uint64_t best = segment_count_;
        for (std::uint64_t i = 0; i < segment_count_; ++i) {
            const bool candidate = i != head_ && segments_[i].filled != 0;
            if (candidate && (best == segment_count_ || segments_[i].live < segments_[best].live)) {
                best = i;
            }
        }
        return best;
    }

    void compact(std::uint64_t victim) {
        const std::uint64_t end = victim * segment_words + segments_[victim].filled;
        for (std::uint64_t word = victim * segment_words; word < end;) {
            Header header;
            std::memcpy(&header, log_ + word, sizeof header);
            if (header.key >= key_count_ || header.version == 0) {
                fail("the log has a record of key ", header.key, " version ", header.version,
                     ", which was never put");
            }
            const std::uint64_t words = header_words + length_of(header.key, header.version);
            Entry& entry = index_[header.key];
            if (entry.word == word) {
                const std::uint64_t* const record = check_record(header.key, entry);
                open_head(words);
                std::memcpy(append(entry, words), record, words * sizeof(std::uint64_t));
            }
            word += words;
        }
        segments_[victim] = {0, 0};
        ++free_;
    }

    // Takes so many words of the head, in which they fit, and points `entry` at them.
    std::uint64_t* append(Entry& entry, std::uint64_t words) {
        Segment& segment = segments_[head_];
        const std::uint64_t word = head_ * segment_words + segment.filled;
        segment.filled += static_cast<std::uint32_t>(words);
        segment.live += static_cast<std::uint32_t>(words);
        entry.word = static_cast<std::uint32_t>(word);
        constexpr std::uint64_t page_words = guest_abi::page_size / sizeof(std::uint64_t);
        page_writes_ += 1 + (word + words) / page_words - word / page_words;  // index, log
        return log_ + word;
    }

    std::uint64_t* log_ = nullptr;
    Entry* index_ = nullptr;
    Segment* segments_ = nullptr;
    std::uint64_t key_count_ = 0;
    std::uint64_t segment_count_ = 0;
    std::uint64_t head_ = 0;  // the segment that is appended to
    std::uint64_t free_ = 0;
    std::uint64_t page_writes_ = 0;
};

constinit std::array<Store, max_vcpus> stores{};

void plan() {
    keys = number("keys");
    value_words = number("value_size") / sizeof(std::uint64_t);
    segment_words = number("segment") / sizeof(std::uint64_t);
    operations = number("operations");
    read_share = number("read_share");
    seed = number("seed");
    if (keys < vcpu_count()) {
        refuse("keys=", keys, " is less than one key for each of ", vcpu_count(), " vCPUs");
    }
    for (std::uint32_t vcpu = 0; vcpu < vcpu_count(); ++vcpu) {
        const Slice share = slice(keys, vcpu, vcpu_count());
        stores[vcpu].plan(share.end - share.begin);
    }
}

void start(std::uint32_t vcpu) {
    stores[vcpu].start();
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    Store& store = stores[vcpu];
    const std::uint64_t before = store.page_writes();
    const Slice key_share = slice(keys, vcpu, vcpu_count());
    const Slice share = slice(operations, vcpu, vcpu_count());
    const Zipf zipf(key_share.end - key_share.begin);
    const Scatter scatter(key_share.end - key_share.begin);
    Random random(seed, vcpu, round);
    for (std::uint64_t i = share.begin; i < share.end; ++i) {
        const std::uint64_t key = scatter.at(zipf.draw(random));
        if (random.below(100) < read_share) {
            store.get(key);
        } else {
            store.put(key);
        }
    }
    store.check();
    return store.page_writes() - before;
}

}  // namespace

constinit const Program program = {
    .name = "log_store", .parameters = parameters, .plan = plan, .start = start, .round = round};

}  // namespace dirtyring::guest
