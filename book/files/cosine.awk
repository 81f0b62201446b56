# The scores of the first vector with each of the others. A vector is a line of numbers and has length 1.
{ for (i = 1; i <= NF; i++) v[NR, i] = $i; width = NF }
END {
    for (row = 2; row <= NR; row++) {
        score = 0
        for (i = 1; i <= width; i++) score += v[1, i] * v[row, i]
        printf "%.2f\n", score
    }
}
