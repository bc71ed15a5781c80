// SPDX-License-Identifier: MIT
#include "runtime.hpp"

#include <algorithm>
#include <cstring>

// The VMM enters here with the arguments of `_start` (abi.hpp). It promises a stack, not its
// alignment.
asm(R"(
    .section .text._start, "ax"
    .globl _start
_start:
    xorl %ebp, %ebp
    andq $-16, %rsp
    call guest_enter
    ud2
    .text
)");

namespace dirtyring::guest {
namespace {

using guest_abi::Info;
using guest_abi::Param;

// Written by vCPU 0 before it sets `planned`, then only read.
constinit const Info* info = nullptr;
constinit std::uint64_t heap_planned = 0;
constinit std::atomic<bool> planned = false;

// Not 0: some vCPU has failed with this status.
constinit std::atomic<std::uint32_t> failure = 0;

constinit std::atomic<bool> console_taken = false;

constinit std::atomic<std::uint32_t> barrier_arrived = 0;
constinit std::atomic<std::uint32_t> barrier_sense = 0;

struct alignas(64) Contribution {
    Sums sums;
};
constinit std::array<Contribution, max_vcpus> contributions{};

static_assert(std::atomic<bool>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

void out32(std::uint16_t port, std::uint32_t value) {
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

void out_bytes(const char* text, std::size_t length) {
    asm volatile("rep outsb" : "+S"(text), "+c"(length) : "d"(guest_abi::console_port) : "memory");
}

bool equal(const char* a, const char* b) {
    while (*a != '\0' && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

std::span<const Param> given() {
    return {info->params, info->param_count};
}

const Param* find_given(const char* name) {
    for (const Param& param : given()) {
        if (equal(param.name, name)) {
            return &param;
        }
    }
    return nullptr;
}

const Parameter* find_declared(const char* name) {
    for (const Parameter& parameter : program.parameters) {
        if (equal(parameter.name, name)) {
            return &parameter;
        }
    }
    return nullptr;
}

bool parse_number(const char* text, std::uint64_t& value) {
    if (*text < '0' || *text > '9') {
        return false;
    }
    value = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
        const auto digit = static_cast<std::uint64_t>(*text - '0');
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    unsigned shift = 0;
    switch (*text) {
        case 'K':
        case 'k':
            shift = 10;
            break;
        case 'M':
        case 'm':
            shift = 20;
            break;
        case 'G':
        case 'g':
            shift = 30;
            break;
        default:
            return *text == '\0';
    }
    return text[1] == '\0' && !__builtin_mul_overflow(value, std::uint64_t{1} << shift, &value);
}

// The place of `word` in "one|two|three".
bool parse_choice(const char* choices, const char* word, unsigned& place) {
    place = 0;
    for (const char* rest = choices;; ++place) {
        const char* letter = word;
        while (*rest != '\0' && *rest != '|' && *rest == *letter) {
            ++rest;
            ++letter;
        }
        if (*letter == '\0' && (*rest == '\0' || *rest == '|')) {
            return true;
        }
        while (*rest != '\0' && *rest != '|') {
            ++rest;
        }
        if (*rest++ == '\0') {
            return false;
        }
    }
}

void check_value(const Parameter& parameter, const char* text) {
    if (parameter.choices != nullptr) {
        unsigned place = 0;
        if (!parse_choice(parameter.choices, text, place)) {
            refuse(parameter.name, "=\"", text, "\" is not known; it takes ", parameter.choices,
                   " (", parameter.meaning, ")");
        }
        return;
    }
    std::uint64_t value = 0;
    if (!parse_number(text, value)) {
        refuse(parameter.name, "=\"", text,
               "\" is not a number; write digits, with K, M or G after them for times 2^10, 2^20 "
               "or 2^30 (",
               parameter.meaning, ")");
    }
    if (value < parameter.least || value > parameter.most) {
        refuse(parameter.name, "=", text, " is out of range; it takes ", parameter.least, " to ",
               parameter.most, " (", parameter.meaning, ")");
    }
}

[[noreturn]] void refuse_unknown(const char* name) {
    {
        Line line;
        line.put(program.name);
        line.put(": unknown parameter \"");
        line.put(name);
        line.put(program.parameters.empty() ? "\"; it takes none" : "\"; it takes ");
        const char* separator = "";
        for (const Parameter& parameter : program.parameters) {
            line.put(separator);
            line.put(parameter.name);
            line.put(" (");
            line.put(parameter.fallback);
            line.put("): ");
            line.put(parameter.meaning);
            separator = ", ";
        }
    }
    leave(2);
}

void check_parameters() {
    for (const Param& param : given()) {
        const Parameter* declared = find_declared(param.name);
        if (declared == nullptr) {
            refuse_unknown(param.name);
        }
        if (find_given(param.name) != &param) {
            refuse("parameter \"", param.name, "\" is given twice; give it once");
        }
        check_value(*declared, param.value);
    }
    for (const Parameter& parameter : program.parameters) {
        check_value(parameter, parameter.fallback);
    }
}

const char* value_of(const Parameter& parameter) {
    const Param* param = find_given(parameter.name);
    return param != nullptr ? param->value : parameter.fallback;
}

const Parameter& declared(const char* name) {
    const Parameter* parameter = find_declared(name);
    if (parameter == nullptr) {
        fail("asks for its parameter \"", name, "\", which is not in its table");
    }
    return *parameter;
}

void check_heap() {
    constexpr std::uint64_t mebibyte = 1 << 20;
    if (heap_planned > info->heap_size) {
        std::uint64_t needed = 0;
        if (__builtin_add_overflow(info->memory_size - info->heap_size, heap_planned, &needed)) {
            refuse("needs more memory than can be addressed; lower its parameters");
        }
        refuse("needs ", needed / mebibyte + (needed % mebibyte != 0 ? 1 : 0),
               " MiB of guest memory, has ", info->memory_size / mebibyte,
               " MiB; give it more or lower its parameters");
    }
}

void plan_on_first_vcpu(const Info* given_info) {
    info = given_info;
    if (info->magic != guest_abi::info_magic) {
        refuse("was entered without a valid Info; the VMM does not follow abi.hpp");
    }
    if (info->vcpu_count > max_vcpus) {
        refuse("runs on at most ", max_vcpus, " vCPUs, not on ", info->vcpu_count);
    }
    check_parameters();
    if (program.plan != nullptr) {
        program.plan();
    }
    check_heap();
    planned.store(true, std::memory_order_release);
}

void run(std::uint32_t vcpu) {
    if (program.start != nullptr) {
        program.start(vcpu);
        barrier();
    }
    const std::uint64_t last = last_round();
    for (std::uint64_t round = 1; last == 0 || round <= last; ++round) {
        const std::uint64_t writes = program.round(vcpu, round);
        out32(guest_abi::round_port,
              static_cast<std::uint32_t>(std::min<std::uint64_t>(writes, UINT32_MAX)));
        barrier();
    }
    if (vcpu == 0) {
        say("all checks passed in ", last, last == 1 ? " round" : " rounds");
    }
}

}  // namespace

// Called by _start above, which could not spell a C++ name.
extern "C" [[noreturn]] void guest_enter(const Info* given_info, std::uint32_t vcpu);

void guest_enter(const Info* given_info, std::uint32_t vcpu) {
    if (vcpu == 0) {
        plan_on_first_vcpu(given_info);
    }
    while (!planned.load(std::memory_order_acquire)) {
        relax();
    }
    run(vcpu);
    leave(0);
}

std::uint64_t number(const char* name) {
    const Parameter& parameter = declared(name);
    std::uint64_t value = 0;
    if (!parse_number(value_of(parameter), value)) {
        fail("asks for its parameter \"", name, "\" as a number, which it is not");
    }
    return value;
}

unsigned choice(const char* name) {
    const Parameter& parameter = declared(name);
    unsigned place = 0;
    if (parameter.choices == nullptr ||
        !parse_choice(parameter.choices, value_of(parameter), place)) {
        fail("asks for its parameter \"", name, "\" as a word, which it is not");
    }
    return place;
}

std::uint32_t vcpu_count() {
    return info->vcpu_count;
}

std::uint32_t tsc_khz() {
    return info->tsc_khz;
}

std::uint64_t last_round() {
    return info->rounds;
}

void* allocate_bytes(std::uint64_t bytes) {
    const std::uint64_t address = info->heap_base + heap_planned;
    // Past 2^63 nothing fits anyway; the sum must only not wrap back to something that does.
    constexpr std::uint64_t far_too_much = std::uint64_t{1} << 63;
    heap_planned = bytes >= far_too_much || heap_planned >= far_too_much
                       ? far_too_much
                       : heap_planned + pages(bytes) * guest_abi::page_size;
    // SAFETY: guest memory is mapped at its own addresses, and the VMM leaves the heap to the
    // guest. If the plan goes past its end, `check_heap` ends the guest before anything is stored
    // there.
    return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

Line::Line() {
    while (console_taken.exchange(true, std::memory_order_acquire)) {
        relax();
    }
}

Line::~Line() {
    put("\n");
    console_taken.store(false, std::memory_order_release);
}

// Not static, so that only who holds the console can write.
// NOLINTBEGIN(readability-convert-member-functions-to-static)
void Line::put(const char* text) {
    out_bytes(text, std::strlen(text));
}

void Line::put(std::uint64_t value) {
    std::array<char, 20> digits;  // 2^64 has 20
    std::size_t first = digits.size();
    do {
        digits[--first] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    out_bytes(&digits[first], digits.size() - first);
}
// NOLINTEND(readability-convert-member-functions-to-static)

void leave(std::uint32_t status) {
    if (status != 0) {
        failure.store(status, std::memory_order_relaxed);
    }
    out32(guest_abi::exit_port, status);
    __builtin_trap();  // the VMM does not enter a vCPU again that has ended
}

void relax() {
    const std::uint32_t status = failure.load(std::memory_order_relaxed);
    if (status != 0) {
        leave(status);
    }
    asm volatile("pause");
}

// Sense-reversing: the last to arrive opens the way for the others and has reset the count by then,
// so the same barrier can be used again at once.
void barrier() {
    const std::uint32_t sense = barrier_sense.load(std::memory_order_relaxed);
    if (barrier_arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == info->vcpu_count) {
        barrier_arrived.store(0, std::memory_order_relaxed);
        barrier_sense.store(sense ^ 1, std::memory_order_release);
        return;
    }
    while (barrier_sense.load(std::memory_order_acquire) == sense) {
        relax();
    }
}

Sums sum_over_vcpus(std::uint32_t vcpu, const Sums& mine) {
    contributions[vcpu].sums = mine;
    barrier();
    Sums total{};
    for (std::uint32_t other = 0; other < info->vcpu_count; ++other) {
        for (std::size_t i = 0; i < total.size(); ++i) {
            total[i] += contributions[other].sums[i];
        }
    }
    barrier();  // nobody may write the next contribution before all have read this one
    return total;
}

}  // namespace dirtyring::guest
