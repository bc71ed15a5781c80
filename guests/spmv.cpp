// SPDX-License-Identifier: MIT
//
// Sparse matrix times vector, again and again: y = A x, then x = y, with A in compressed rows (CSR)
// and all arithmetic modulo the prime p = 2^31 - 1, so that results are exact.
//
// Each product is checked against an invariant: with a random vector r and w = r A, worked out once
// while the matrix is made, r*y must equal w*x. And the x of each product must still have the r*x
// that it had as y. A wrong word slips through with probability 1/p.
#include <atomic>
#include <utility>

#include "random.hpp"
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"rows", "500000", "rows and columns of the matrix", 1, std::uint64_t{1} << 31},
    Parameter{"row_nonzeros", "8", "nonzero elements in a row, on average", 1, 1024},
    Parameter{"iterations", "8", "products in a round", 1, 1000000},
    Parameter{"seed", "1", "start of the random numbers", 0, UINT64_MAX},
};

constexpr std::uint64_t prime = (std::uint64_t{1} << 31) - 1;

struct Element {
    std::uint32_t column;
    std::uint32_t value;
};

constinit std::uint64_t* row_begin = nullptr;  // rows + 1 places in `elements`
constinit Element* elements = nullptr;
constinit std::uint32_t* vectors[2] = {nullptr, nullptr};  // x and y, in turns
constinit std::uint64_t* weights = nullptr;                // w = r A
constinit std::uint64_t rows = 0;
constinit std::uint64_t row_nonzeros = 0;
constinit std::uint64_t nonzeros = 0;
constinit std::uint64_t iterations = 0;
constinit std::uint64_t seed = 0;

// r*x of the vector that the last product gave, the same on all vCPUs; each keeps its own.
struct alignas(64) Memory {
    std::uint64_t r_dot_x;
};
constinit std::array<Memory, max_vcpus> memories{};

constexpr std::uint64_t reduce(std::uint64_t value) {
    return value % prime;
}

// The random numbers of each purpose are a stream of their own.
enum class Stream : std::uint64_t { row_length = 1, element, r, x };

std::uint64_t stream_seed(Stream stream) {
    return mix64(seed) ^ static_cast<std::uint64_t>(stream) << 60;
}

// 1 .. 2 * row_nonzeros - 1. The rows of a pair have twice the average together, so the total is
// known beforehand.
std::uint64_t row_length(std::uint64_t row) {
    const std::uint64_t even = row & ~std::uint64_t{1};
    if (even + 1 == rows) {
        return row_nonzeros;
    }
    const std::uint64_t length =
        1 + multiply_high(mix64(stream_seed(Stream::row_length) ^ even), 2 * row_nonzeros - 1);
    return row == even ? length : 2 * row_nonzeros - length;
}

std::uint64_t r(std::uint64_t row) {
    return reduce(mix64(stream_seed(Stream::r) ^ row));
}

void plan() {
    rows = number("rows");
    row_nonzeros = number("row_nonzeros");
    iterations = number("iterations");
    seed = number("seed");
    nonzeros = rows * row_nonzeros;
    row_begin = allocate<std::uint64_t>(rows + 1);
    elements = allocate<Element>(nonzeros);
    weights = allocate<std::uint64_t>(rows);
    vectors[0] = allocate<std::uint32_t>(rows);
    vectors[1] = allocate<std::uint32_t>(rows);
}

void make_row(std::uint64_t row) {
    Random random(stream_seed(Stream::element) ^ row);
    for (std::uint64_t k = row_begin[row]; k < row_begin[row + 1]; ++k) {
        const std::uint64_t column = random.below(rows);
        const std::uint64_t value = 1 + random.below(prime - 1);
        elements[k] = {static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(value)};
        // SAFETY: an aligned word of `weights`, which all vCPUs access only so until the next
        // barrier. The terms are below 2^31, and no column has as many as 2^33 of them: the sum
        // does not overflow.
        std::atomic_ref(weights[column])
            .fetch_add(reduce(r(row) * value), std::memory_order_relaxed);
    }
}

void start(std::uint32_t vcpu) {
    if (vcpu == 0) {
        for (std::uint64_t row = 0; row < rows; ++row) {
            row_begin[row + 1] = row_begin[row] + row_length(row);
        }
    }
    barrier();
    const Slice share = slice(rows, vcpu, vcpu_count());
    std::uint64_t r_dot_x = 0;
    for (std::uint64_t row = share.begin; row < share.end; ++row) {
        make_row(row);
        const std::uint64_t x = reduce(mix64(stream_seed(Stream::x) ^ row));
        vectors[0][row] = static_cast<std::uint32_t>(x);
        r_dot_x = reduce(r_dot_x + r(row) * x);
    }
    memories[vcpu].r_dot_x = reduce(sum_over_vcpus(vcpu, {r_dot_x})[0]);
    for (std::uint64_t column = share.begin; column < share.end; ++column) {
        weights[column] = reduce(weights[column]);
    }
}

std::uint64_t product(std::uint64_t row, const std::uint32_t* x) {
    const std::uint64_t begin = row_begin[row];
    const std::uint64_t end = row_begin[row + 1];
    if (begin > end || end > nonzeros) {
        fail("the begin of row ", row, " is out of place");
    }
    std::uint64_t sum = 0;
    for (std::uint64_t k = begin; k < end; ++k) {
        const Element element = elements[k];
        if (element.column >= rows) {
            fail("row ", row, " has an element in column ", element.column, " of ", rows);
        }
        sum = reduce(sum + std::uint64_t{element.value} * x[element.column]);
    }
    return sum;
}

void iterate(std::uint32_t vcpu, const std::uint32_t* x, std::uint32_t* y) {
    const Slice share = slice(rows, vcpu, vcpu_count());
    std::uint64_t r_dot_y = 0;
    for (std::uint64_t row = share.begin; row < share.end; ++row) {
        const std::uint64_t sum = product(row, x);
        y[row] = static_cast<std::uint32_t>(sum);
        r_dot_y = reduce(r_dot_y + r(row) * sum);
    }
    std::uint64_t r_dot_x = 0;
    std::uint64_t w_dot_x = 0;
    for (std::uint64_t row = share.begin; row < share.end; ++row) {
        r_dot_x = reduce(r_dot_x + r(row) * x[row]);
        w_dot_x = reduce(w_dot_x + reduce(weights[row]) * x[row]);
    }
    const Sums sums = sum_over_vcpus(vcpu, {r_dot_y, w_dot_x, r_dot_x});
    if (reduce(sums[2]) != memories[vcpu].r_dot_x) {
        fail("the vector has changed since it was worked out");
    }
    if (reduce(sums[0]) != reduce(sums[1])) {
        fail("the product does not satisfy r*(A x) = (r A)*x");
    }
    memories[vcpu].r_dot_x = reduce(sums[0]);
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    for (std::uint64_t i = 0; i < iterations; ++i) {
        // The vectors change places with every product, also from one round to the next.
        const std::uint64_t turn = ((round - 1) * iterations + i) % 2;
        iterate(vcpu, vectors[turn], vectors[1 - turn]);
    }
    const Slice share = slice(rows, vcpu, vcpu_count());
    return iterations * pages((share.end - share.begin) * sizeof(std::uint32_t));
}

}  // namespace

constinit const Program program = {
    .name = "spmv", .parameters = parameters, .plan = plan, .start = start, .round = round};

}  // namespace dirtyring::guest
