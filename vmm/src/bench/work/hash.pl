# Hashes, arrays, strings and sorting.
use strict;
use warnings;
my (%hash, @list);
my $state = 1;
for my $i (1 .. 120_000) {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    $hash{"key" . ($state % 20_000)} += $i;
    push @list, $state if $i % 4 == 0;
}
my $sum = 0;
$sum = ($sum * 31 + $hash{$_}) % 1_000_000_007 for sort keys %hash;
my @sorted = sort { $a <=> $b } @list;
print "$sum $sorted[0] $sorted[-1] ", scalar(keys %hash), ' ', length(join ',', @sorted), "\n";
