// SPDX-License-Identifier: MIT
//
// The functions of the C library that a compiler calls of its own accord, even in freestanding
// code. The string instructions keep it from turning a loop here into a call of the very function
// that it is in.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, std::size_t size);
void* memset(void* to, int byte, std::size_t size);
void* memmove(void* to, const void* from, std::size_t size);
int memcmp(const void* left, const void* right, std::size_t size);
std::size_t strlen(const char* text);

void* memcpy(void* to, const void* from, std::size_t size) {
    void* result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}

void* memset(void* to, int byte, std::size_t size) {
    void* result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
    return result;
}

void* memmove(void* to, const void* from, std::size_t size) {
    auto* target = static_cast<unsigned char*>(to);
    const auto* source = static_cast<const unsigned char*>(from);
    if (target <= source || target >= source + size) {
        return memcpy(to, from, size);
    }
    while (size != 0) {
        --size;
        target[size] = source[size];
        asm volatile("" : : : "memory");
    }
    return to;
}

int memcmp(const void* left, const void* right, std::size_t size) {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (std::size_t i = 0; i < size; ++i) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
    }
    return 0;
}

std::size_t strlen(const char* text) {
    std::size_t left = SIZE_MAX;
    asm volatile("repne scasb" : "+D"(text), "+c"(left) : "a"(0) : "cc", "memory");
    return SIZE_MAX - left - 1;
}

}  // extern "C"
