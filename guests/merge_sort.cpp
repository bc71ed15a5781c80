// SPDX-License-Identifier: MIT
//
// A merge sort in the manner of an external one: random records are generated as runs, each run is
// sorted in place, and passes of k-way merges go to and fro between two buffers until one run is
// left.
//
// In every merge each vCPU produces the records of its own range of keys. The result must be
// sorted, and must have the same number of records, sum and sum of hashes as what was generated.
#include <algorithm>
#include <utility>

#include "random.hpp"
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::uint64_t most_ways = 64;

constexpr std::array parameters = {
    Parameter{"records", "2000000", "records of 8 bytes to sort in a round", 1,
              std::uint64_t{1} << 40},
    Parameter{"run", "64K", "records of a run that is sorted in place before the merges", 1,
              std::uint64_t{1} << 32},
    Parameter{"ways", "8", "runs merged into one at a time", 2, most_ways},
    Parameter{"seed", "1", "start of the random numbers", 0, UINT64_MAX},
};

constinit std::uint64_t* buffers[2] = {nullptr, nullptr};
constinit std::uint64_t records = 0;
constinit std::uint64_t run_length = 0;
constinit std::uint64_t ways = 0;
constinit std::uint64_t seed = 0;

// A sorted stretch of records still to be merged.
struct Run {
    const std::uint64_t* head;
    const std::uint64_t* end;
};

// Restores the heap order of values[0 .. count) below `root`: no value is before its children.
template <class T, class Before>
void sift_down(T* values, std::uint64_t count, std::uint64_t root, Before before) {
    const T moving = values[root];
    for (;;) {
        std::uint64_t child = 2 * root + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && before(values[child], values[child + 1])) {
            ++child;
        }
        if (!before(moving, values[child])) {
            break;
        }
        values[root] = values[child];
        root = child;
    }
    values[root] = moving;
}

void heap_sort(std::uint64_t* values, std::uint64_t count) {
    const auto less = [](std::uint64_t a, std::uint64_t b) { return a < b; };
    for (std::uint64_t root = count / 2; root-- > 0;) {
        sift_down(values, count, root, less);
    }
    for (std::uint64_t left = count; left > 1; --left) {
        std::swap(values[0], values[left - 1]);
        sift_down(values, left - 1, 0, less);
    }
}

void merge(Run* runs, std::uint64_t count, std::uint64_t* out) {
    const auto later = [](const Run& a, const Run& b) { return *a.head > *b.head; };
    for (std::uint64_t root = count / 2; root-- > 0;) {
        sift_down(runs, count, root, later);
    }
    while (count != 0) {
        *out++ = *runs[0].head++;
        if (runs[0].head == runs[0].end) {
            runs[0] = runs[--count];
        }
        if (count > 1) {
            sift_down(runs, count, 0, later);
        }
    }
}

// The first key of a vCPU's range. Keys are evenly spread over all 64-bit numbers.
std::uint64_t first_key(std::uint32_t vcpu) {
    return UINT64_MAX / vcpu_count() * vcpu;
}

// Merges this vCPU's keys of the runs of `length` in from[begin, end) to their place in `to`.
// Returns how many.
std::uint64_t merge_group(std::uint32_t vcpu, const std::uint64_t* from, std::uint64_t* to,
                          std::uint64_t begin, std::uint64_t end, std::uint64_t length) {
    std::array<Run, most_ways> runs;
    std::uint64_t count = 0;
    std::uint64_t place = begin;
    std::uint64_t merged = 0;
    for (std::uint64_t start = begin; start < end; start += length) {
        const std::uint64_t* const first = from + start;
        const std::uint64_t* const last = from + std::min(start + length, end);
        const std::uint64_t* const mine =
            vcpu == 0 ? first : std::lower_bound(first, last, first_key(vcpu));
        const std::uint64_t* const others =
            vcpu + 1 == vcpu_count() ? last : std::lower_bound(first, last, first_key(vcpu + 1));
        place += static_cast<std::uint64_t>(mine - first);
        if (mine < others) {
            runs[count++] = {mine, others};
            merged += static_cast<std::uint64_t>(others - mine);
        }
    }
    if (place + merged > end) {
        fail("a run is out of order: its keys do not fit into their place");
    }
    merge(runs.data(), count, to + place);
    return merged;
}

struct Checksum {
    std::uint64_t sum = 0;
    std::uint64_t hashes = 0;

    void add(std::uint64_t record) {
        sum += record;
        hashes += mix64(record);
    }
};

void check(std::uint32_t vcpu, const std::uint64_t* sorted, const Checksum& generated) {
    const Slice share = slice(records, vcpu, vcpu_count());
    Checksum found;
    for (std::uint64_t i = share.begin; i < share.end; ++i) {
        found.add(sorted[i]);
        if (i > 0 && sorted[i - 1] > sorted[i]) {
            fail("record ", i, " is smaller than the one before it");
        }
    }
    const Sums sums =
        sum_over_vcpus(vcpu, {found.sum - generated.sum, found.hashes - generated.hashes});
    if (sums[0] != 0 || sums[1] != 0) {
        fail("the sorted records are not those that were generated");
    }
}

void plan() {
    records = number("records");
    run_length = number("run");
    ways = number("ways");
    seed = number("seed");
    buffers[0] = allocate<std::uint64_t>(records);
    buffers[1] = allocate<std::uint64_t>(records);
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    std::uint64_t* from = buffers[0];
    std::uint64_t* to = buffers[1];
    std::uint64_t written = 0;  // pages
    Random random(seed, vcpu, round);
    Checksum generated;
    const Slice share = slice((records + run_length - 1) / run_length, vcpu, vcpu_count());
    for (std::uint64_t run = share.begin; run < share.end; ++run) {
        std::uint64_t* const first = from + run * run_length;
        const std::uint64_t count = std::min(run_length, records - run * run_length);
        for (std::uint64_t i = 0; i < count; ++i) {
            first[i] = random.next();
            generated.add(first[i]);
        }
        heap_sort(first, count);
        written += 2 * pages(count * sizeof(std::uint64_t));
    }
    barrier();
    for (std::uint64_t length = run_length; length < records; length *= ways) {
        for (std::uint64_t begin = 0; begin < records; begin += length * ways) {
            const std::uint64_t end = std::min(begin + length * ways, records);
            written +=
                pages(merge_group(vcpu, from, to, begin, end, length) * sizeof(std::uint64_t));
        }
        barrier();
        std::swap(from, to);
    }
    check(vcpu, from, generated);
    return written;
}

}  // namespace

constinit const Program program = {
    .name = "merge_sort", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
