# Regular expressions over a text.
use strict;
use warnings;
open my $file, '<', $ARGV[0] or die;
local $/;
my $text = <$file>;
my ($numbered, $pairs, $vowels) = (0, 0, 0);
$numbered += $2 while $text =~ /\b([a-z]+)(\d+)\b/g;
$pairs++ while $text =~ /\b(the|of|and)\s+(\w+)\s+(?:to|in|is)\b/g;
(my $copy = $text) =~ s/([aeiou])([^aeiou\s])/$2$1/g;
$vowels = ($copy =~ tr/aeiou//);
my %lines;
$lines{$1}++ while $text =~ /^(\w+) .* (\w+)$/mg;
print join(' ', $numbered, $pairs, $vowels, length($copy), map { "$_=$lines{$_}" } sort keys %lines), "\n";
