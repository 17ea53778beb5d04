// Never used to download: with GO111MODULE=off it only tells Go that imports may end in /v2.
module cromulent/interop/pion

go 1.19
